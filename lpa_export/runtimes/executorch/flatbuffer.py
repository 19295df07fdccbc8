"""Tables of a flatbuffer by slot number, with every offset checked.

https://flatbuffers.dev/internals: a table points back to its vtable, which holds the place of each
field; vectors and texts are forward offsets. The reader serves untrusted files: it stays inside
the buffer and stops after as many reads as a sound file of this size could need.
"""

import struct
from typing import Any

from lpa_export.runtimes import ArtifactError

__all__ = ["Buffer", "Table"]

_READS_PER_BYTE = 4
"""More than any sound file needs; offsets that all lead to one place cost no endless time."""


class Buffer:
    """The bytes of one flatbuffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _READS_PER_BYTE * len(data) + 64

    @property
    def root(self) -> "Table":
        """The root table. Raises ArtifactError for bytes that hold none."""
        return Table(self, self.unpack("I", 0))

    def unpack(self, form: str, place: int) -> Any:
        """The little-endian number at ``place``. Raises ArtifactError outside the buffer."""
        self._left -= 1
        if place < 0 or self._left < 0:
            raise ArtifactError("its flatbuffer is damaged")
        try:
            return struct.unpack_from(f"<{form}", self._data, place)[0]
        except struct.error as error:
            raise ArtifactError("its flatbuffer is damaged") from error

    def bytes(self, place: int, count: int) -> bytes:
        """``count`` bytes from ``place``. Raises ArtifactError outside the buffer."""
        self._left -= count
        if place < 0 or self._left < 0 or place + count > len(self._data):
            raise ArtifactError("its flatbuffer is damaged")
        return self._data[place : place + count]


class Table:
    """One table; a field that it leaves out reads as its default. All may raise ArtifactError."""

    def __init__(self, buffer: Buffer, place: int) -> None:
        self._buffer = buffer
        self._place = place
        self._fields = place - buffer.unpack("i", place)
        self._size = buffer.unpack("H", self._fields)

    def number(self, slot: int, form: str, default: int = 0) -> int:
        """A scalar; ``form`` as in ``struct`` (B, H, i, I, q, Q)."""
        place = self._field(slot)
        return default if place is None else int(self._buffer.unpack(form, place))

    def text(self, slot: int) -> str:
        """A text, empty where there is none."""
        return self.raw(slot).decode("utf-8", "replace")

    def raw(self, slot: int) -> bytes:
        """A vector of bytes, empty where there is none."""
        start, count = self._vector(slot)
        return self._buffer.bytes(start, count)

    def table(self, slot: int) -> "Table | None":
        """A table (or the value of a union), None where there is none."""
        place = self._field(slot)
        return None if place is None else Table(self._buffer, self._follow(place))

    def tables(self, slot: int) -> list["Table"]:
        """A vector of tables."""
        start, count = self._vector(slot)
        return [Table(self._buffer, self._follow(start + 4 * i)) for i in range(count)]

    def numbers(self, slot: int, form: str) -> list[int]:
        """A vector of scalars."""
        start, count = self._vector(slot)
        width = struct.calcsize(f"<{form}")
        return [int(self._buffer.unpack(form, start + width * i)) for i in range(count)]

    def _field(self, slot: int) -> int | None:
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return None
        offset = self._buffer.unpack("H", self._fields + entry)
        return self._place + offset if offset else None

    def _vector(self, slot: int) -> tuple[int, int]:
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = self._follow(place)
        return start + 4, self._buffer.unpack("I", start)

    def _follow(self, place: int) -> int:
        return place + int(self._buffer.unpack("I", place))
