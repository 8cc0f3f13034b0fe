"""Drawings of graphs: nothing overlaps, and every edge goes from left to right."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from ccstore.explain.layered import Sizes, draw
from ccstore.explain.picture import Box, svg

GRAPHS = st.lists(st.sets(st.integers(0, 14), max_size=4), max_size=15).map(
    lambda needs: {
        f"n{i}": [f"n{each}" for each in sorted(below) if each < i] for i, below in enumerate(needs)
    }
)


@given(GRAPHS, st.data())
def test_nothing_overlaps_and_edges_go_right(graph: dict[str, list[str]], data: st.DataObject) -> None:
    widths = {name: data.draw(st.floats(10, 200)) for name in graph}
    found = draw(graph, Sizes(widths, height=40, layer_gap=50, node_gap=10))
    assert set(found.nodes) == set(graph)
    assert set(found.edges) == {(each, user) for user, needs in graph.items() for each in needs}
    boxes = {name: (x, y, x + widths[name], y + 40) for name, (x, y) in found.nodes.items()}
    for one, other in itertools.combinations(boxes.values(), 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    for box in boxes.values():
        assert box[0] >= 0
        assert box[1] > -0.001
        assert box[2] <= found.width + 0.001
        assert box[3] <= found.height + 0.001
    for (source, user), points in found.edges.items():
        assert points[0] == (boxes[source][2], boxes[source][1] + 20)
        assert points[-1] == (boxes[user][0], boxes[user][1] + 20)
        assert all(one[0] <= other[0] + 0.001 for one, other in itertools.pairwise(points))


def test_edges_pass_by_boxes() -> None:
    """A long edge has room of its own in each layer that it goes through."""
    graph: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}
    found = draw(graph, Sizes(dict.fromkeys(graph, 30.0), height=40, layer_gap=50, node_gap=10))
    for name in ("b", "c"):
        left, top = found.nodes[name]
        for (x1, y1), (x2, y2) in itertools.pairwise(found.edges["a", "d"]):
            if y1 == y2 and x1 <= left < x2:
                assert not top < y1 < top + 40


def test_a_picture_is_xml_that_names_every_box() -> None:
    boxes = [Box("a<b>", "present", "1 kB", []), Box("c & d", "to build", "2 s", ["a<b>"], tip="x < y")]
    text = "\n".join(svg(boxes, "t"))
    root = ET.fromstring(text)
    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["a<b>", "1 kB", "c & d", "2 s", "present", "to build"]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 1
