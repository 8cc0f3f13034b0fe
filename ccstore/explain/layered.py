"""Where the nodes of a graph go in a drawing from left to right: a layered layout.

Sources are left of what uses them; a node with a choice stands next to its first user. Edges over several layers get
a bend in each layer between. The order in each layer is made by going through the layers several times, each node
moving to the mean place of its neighbours; the heights then in the same way. (Sugiyama, Tagawa, Toda: "Methods for
Visual Understanding of Hierarchical System Structures", 1981.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 12
Key = tuple[str, ...]  # a node (one name), or the bend of an edge (source, user, layer)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths and heights of nodes; gaps between layers and between nodes of one layer."""

    widths: Mapping[str, float]
    height: float
    layer_gap: float
    node_gap: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """The left upper corner of each node, the points that each edge goes through, and the size of all."""

    nodes: Mapping[str, tuple[float, float]]
    edges: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
    width: float
    height: float


def draw(inputs: Mapping[str, Sequence[str]], sizes: Sizes) -> Drawing:
    """`inputs` has every node with those that it uses, each before its users."""
    return _Layout(inputs, sizes).run()


class _Layout:
    def __init__(self, inputs: Mapping[str, Sequence[str]], sizes: Sizes) -> None:
        self._sizes = sizes
        self._edges = [(each, user) for user, needs in inputs.items() for each in needs]
        self._layer = _layers(inputs)
        self._rows: list[list[Key]] = [[] for _ in range(max(self._layer.values(), default=-1) + 1)]
        self._left: dict[Key, list[Key]] = {}
        self._right: dict[Key, list[Key]] = {}
        self._ways: dict[tuple[str, str], list[Key]] = {}
        for node in inputs:
            self._add((node,), self._layer[node])
        for edge in self._edges:
            self._connect(edge)

    def _add(self, key: Key, layer: int) -> None:
        self._rows[layer].append(key)
        self._left[key], self._right[key] = [], []

    def _connect(self, edge: tuple[str, str]) -> None:
        source, user = edge
        way: list[Key] = [(source,)]
        for layer in range(self._layer[source] + 1, self._layer[user]):
            way.append((source, user, str(layer)))
            self._add(way[-1], layer)
        way.append((user,))
        for one, other in itertools.pairwise(way):
            self._right[one].append(other)
            self._left[other].append(one)
        self._ways[edge] = way

    def run(self) -> Drawing:
        self._order()
        middles = self._heights()
        lefts, width = self._columns()
        half = self._sizes.height / 2
        nodes = {
            key[0]: (lefts[self._layer[key[0]]], middle - half)
            for key, middle in middles.items()
            if len(key) == 1
        }
        edges = {edge: self._points(way, lefts, middles) for edge, way in self._ways.items()}
        return Drawing(nodes, edges, width, max(middles.values(), default=0.0) + half)

    def _order(self) -> None:
        for sweep in range(SWEEPS):
            forth = sweep % 2 == 0
            neighbours = self._left if forth else self._right
            for row in self._rows if forth else self._rows[::-1]:
                places = {key: i for other in self._rows for i, key in enumerate(other)}
                means = {key: _mean([places[each] for each in neighbours[key]], places[key]) for key in row}
                row.sort(key=means.__getitem__)

    def _heights(self) -> dict[Key, float]:
        """The middle of each node and bend."""
        step = {key: self._step(key) for row in self._rows for key in row}
        middles: dict[Key, float] = {}
        for row in self._rows:
            _spread(row, dict.fromkeys(row, 0.0), step, middles)
        for sweep in range(SWEEPS):
            for row in self._rows if sweep % 2 == 0 else self._rows[::-1]:
                wanted = {
                    key: _mean([middles[each] for each in self._left[key] + self._right[key]], middles[key])
                    for key in row
                }
                _spread(row, wanted, step, middles)
        top = min((middle - self._sizes.height / 2 for middle in middles.values()), default=0.0)
        return {key: middle - top for key, middle in middles.items()}

    def _step(self, key: Key) -> float:
        """The room that a node, or the bend of an edge, takes in its layer."""
        return self._sizes.height + self._sizes.node_gap if len(key) == 1 else self._sizes.node_gap

    def _columns(self) -> tuple[list[float], float]:
        lefts: list[float] = []
        x = 0.0
        for row in self._rows:
            lefts.append(x)
            x += max((self._sizes.widths[key[0]] for key in row if len(key) == 1), default=0.0)
            x += self._sizes.layer_gap
        return lefts, max(x - self._sizes.layer_gap, 0.0)

    def _points(
        self, way: list[Key], lefts: list[float], middles: Mapping[Key, float]
    ) -> list[tuple[float, float]]:
        """From the right side of the source to the user's left side; only between two layers up or down."""
        source, middle = way[0][0], middles[way[0]]
        layer = self._layer[source]
        points = [(lefts[layer] + self._sizes.widths[source], middle), (self._end(layer, lefts), middle)]
        for key in way[1:-1]:
            layer = int(key[2])
            points += [(lefts[layer], middles[key]), (self._end(layer, lefts), middles[key])]
        return [*points, (lefts[self._layer[way[-1][0]]], middles[way[-1]])]

    def _end(self, layer: int, lefts: list[float]) -> float:
        return lefts[layer + 1] - self._sizes.layer_gap


def _layers(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Each node as far left as its inputs allow, then as far right as its users do."""
    layers: dict[str, int] = {}
    users: dict[str, list[str]] = {name: [] for name in inputs}
    for name, needs in inputs.items():
        layers[name] = 1 + max((layers[each] for each in needs), default=-1)
        for each in needs:
            users[each].append(name)
    for name in reversed(list(inputs)):
        if users[name]:
            layers[name] = min(layers[user] for user in users[name]) - 1
    return layers


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(
    row: Sequence[Key], wanted: Mapping[Key, float], step: Mapping[Key, float], middles: dict[Key, float]
) -> None:
    """Puts a layer's nodes as near to where they want to be as their order and the room between them allow.

    Neighbours that would overlap become a block, which stands at the mean of what its members want (the pool
    adjacent violators algorithm).
    """
    offsets: list[float] = []
    for i, key in enumerate(row):
        offsets.append(offsets[-1] + (step[row[i - 1]] + step[key]) / 2 if i else 0.0)
    blocks: list[tuple[float, int]] = []  # mean of what is wanted, less the offset; members
    for key, offset in zip(row, offsets, strict=True):
        mean, count = wanted[key] - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, members = blocks.pop()
            mean = (mean * count + before * members) / (count + members)
            count += members
        blocks.append((mean, count))
    starts = [mean for mean, count in blocks for _ in range(count)]
    for key, offset, start in zip(row, offsets, starts, strict=True):
        middles[key] = start + offset
