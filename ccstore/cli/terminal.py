"""Text that others wrote, on its way to a person's terminal."""

from __future__ import annotations


def shown(text: str) -> str:
    """`text` on one line, with everything that could command a terminal or reorder what is read made visible.

    Compilers, servers and file names can hold escape sequences; a build must not be able to clear the screen, forge
    a line of ours or, on some terminals, type commands.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else _visible(char) for char in text)


def _visible(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
