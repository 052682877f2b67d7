"""The data elements of a DICOM file: what the library that reads the pixels does not tell.

Frames of one file have their places in nested sequences (DICOM PS3.5, section 7).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

SHARED, PER_FRAME = 0x5200_9229, 0x5200_9230
MEASURES, PLANE_POSITION, PLANE_ORIENTATION = 0x0028_9110, 0x0020_9113, 0x0020_9116
TRANSFORMATION = 0x0028_9145
_ENTERED = {SHARED, PER_FRAME, MEASURES, PLANE_POSITION, PLANE_ORIENTATION, TRANSFORMATION}
_SYNTAX, _PIXELS = 0x0002_0010, 0x7FE0_0010
_ITEM_END, _SEQUENCE_END = 0xFFFE_E00D, 0xFFFE_E0DD
_BIG_ENDIAN, _DEFLATED = b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"
_LONG_KINDS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT",
               b"UV")  # fmt: skip
_UNDEFINED = 0xFFFF_FFFF
_LONGEST = 1024  # bytes of a value; what is longer is not kept


@dataclass
class Elements:
    """Data elements by their tags, such as 0x00200032.

    Attributes:
        values: As text or numbers are stored.
        sequences: The items of the functional groups.
        pixels: Bytes of pixels in the file; None where there are none or they are compressed.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list[Elements]] = field(default_factory=dict)
    pixels: int | None = None

    def text(self, tag: int) -> str:
        """A value as text; "" where there is none."""
        return self.values.get(tag, b"").decode("ascii", "replace").strip("\0 ")

    def item(self, tag: int) -> Elements | None:
        """The first item of a sequence."""
        return next(iter(self.sequences.get(tag, ())), None)


def read_elements(path: Path) -> Elements | None:
    """The elements of a file up to its pixels; None where they cannot be told apart."""
    try:
        with (
            open(path, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _read(data)
    except (OSError, ValueError, struct.error, zlib.error, RecursionError):
        return None


def _read(data: bytes | mmap.mmap) -> Elements:
    walk = _Walk(data, 132 if data[128:132] == b"DICM" else 0)
    syntax = walk.file_meta().values.get(_SYNTAX, b"").strip(b"\0 ")
    if syntax == _DEFLATED:
        walk = _Walk(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[walk.at :]), 0)
    if syntax == _BIG_ENDIAN:
        walk.order = ">"
    explicit = walk.data[walk.at + 4 : walk.at + 6].isalpha()
    return walk.elements(len(walk.data), explicit=explicit)


class _Walk:
    """Goes through the bytes of a data set; `at` is where it stands."""

    def __init__(self, data: bytes | mmap.mmap, at: int) -> None:
        self.data, self.at, self.order = data, at, "<"

    def file_meta(self) -> Elements:
        found = Elements()
        while self.data[self.at : self.at + 2] == b"\x02\x00":
            self._element(found, explicit=True)
        return found

    def elements(self, end: int, *, explicit: bool) -> Elements:
        found = Elements()
        while self.at < end and self._element(found, explicit=explicit):
            pass
        return found

    def _element(self, found: Elements, *, explicit: bool) -> bool:
        """Take one element; False at the end of an item and at the pixels, which come last."""
        tag, kind, length = self._head(explicit)
        if tag == _ITEM_END:
            return False
        if tag == _PIXELS and length != _UNDEFINED:
            found.pixels = min(length, len(self.data) - self.at)
            return False
        if length == _UNDEFINED and kind in (b"OB", b"OW"):  # compressed
            return self._skip_fragments()
        if length == _UNDEFINED or tag in _ENTERED:
            end = len(self.data) if length == _UNDEFINED else self.at + length
            # A sequence of unknown kind is stored without the kinds of its elements.
            found.sequences[tag] = self._items(end, explicit=explicit and kind != b"UN")
            return True
        if length <= _LONGEST:
            found.values[tag] = self.data[self.at : self.at + length]
        self._go(length)
        return True

    def _items(self, end: int, *, explicit: bool) -> list[Elements]:
        items = []
        while self.at < end:
            tag, _, length = self._head(explicit)
            if tag == _SEQUENCE_END:
                break
            last = end if length == _UNDEFINED else self.at + length
            items.append(self.elements(last, explicit=explicit))
        return items

    def _skip_fragments(self) -> bool:
        while (head := self._head(False))[0] != _SEQUENCE_END:
            self._go(head[2])
        return True

    def _head(self, explicit: bool) -> tuple[int, bytes, int]:
        """Tag, kind (value representation; b"" where it is not stored) and length."""
        group, element, length = struct.unpack(f"{self.order}HHI", self._go(8))
        tag = group << 16 | element
        if not explicit or group == 0xFFFE:
            return tag, b"", length
        kind = self.data[self.at - 4 : self.at - 2]
        if kind in _LONG_KINDS:
            return tag, kind, struct.unpack(f"{self.order}I", self._go(4))[0]
        return tag, kind, struct.unpack(f"{self.order}H", self.data[self.at - 2 : self.at])[0]

    def _go(self, length: int) -> bytes:
        """Pass over so many bytes; the first of them, at most twelve."""
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise ValueError("the file ends within an element")
        return self.data[start : min(self.at, start + 12)]
