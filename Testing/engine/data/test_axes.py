"""Sizes as people write them."""

from __future__ import annotations

import pytest
from e2enet.data.axes import parse_sizes
from e2enet.events import BadInput


@pytest.mark.parametrize("text", ["40,56,40", "40x56x40", "40X56×40", " 40, 56, 40 "])
def test_every_way_to_write_sizes(text: str) -> None:
    assert parse_sizes(text, "--patch") == (40, 56, 40)


@pytest.mark.parametrize(
    "text", ["", "64", "16,16", "axbxc", "0x1x2", "-1,2,3", "1;2;3", "1,2,3,4"]
)
def test_what_are_no_sizes(text: str) -> None:
    with pytest.raises(BadInput, match="--patch has") as caught:
        parse_sizes(text, "--patch")
    assert "40,56,40" in caught.value.help
