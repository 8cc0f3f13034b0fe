"""guest_words.py: sizes."""

from __future__ import annotations

import pytest

from ccstore.builders import guest_words as words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("6MB", 6_000_000),
        ("6 MB", 6_000_000),
        ("1.5MB", 1_500_000),
        ("0.5MiB", 512 << 10),
        ("1.000000001GB", 1_000_000_001),
        ("1.3KiB", 1331),
        ("2.50 kB", 2500),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert words.size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0MB", "0.5", "-1MB", "1.MB", ".5MB", "1,5MB", "1.5.5MB", "1e3", "5mb", "1.5X", "１MB"],
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="should be a size"):
        words.size(text)
