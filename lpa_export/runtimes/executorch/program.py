"""A ``.pte`` as it lies on disk: its methods, what they call, and what they carry.

Layout: a flatbuffer (``schema/program.fbs`` of ExecuTorch), with an extended header behind its
identifier, then segments with weights and delegate data. Slots are those of that schema, which
only grows while the identifier stays.
"""

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.flatbuffer import Buffer, Table

__all__ = ["Delegate", "Method", "Program", "constant_methods", "named_data", "read_program"]

_IDENTIFIER = b"ET12"
_HEADER_MAGIC = b"eh00"
_HEADER = 8
"""The extended header stands behind the root offset and the identifier."""
_MIN_HEADER_BYTES = 24
_HEAD = 40
_KERNEL, _DELEGATE = 1, 2
"""Members of the union InstructionArguments."""


@dataclass(frozen=True)
class Delegate:
    """A part of a method that a backend computes; ``data`` is what the backend is given."""

    backend: str
    data: bytes


@dataclass(frozen=True)
class Method:
    """One method of a program.

    ``kernels`` counts the calls of each kernel by its full name, ``delegate_calls`` holds one
    index into ``delegates`` per call with the values it reads and writes, ``planned_bytes`` is
    the memory planned for its activations.
    """

    name: str
    kernels: Mapping[str, int]
    delegates: tuple[Delegate, ...]
    delegate_calls: tuple[tuple[int, tuple[int, ...]], ...]
    other_instructions: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    planned_bytes: int


@dataclass(frozen=True)
class Program:
    """A whole file, sizes in bytes: ``constant_bytes`` are weights of kernels, ``named`` (by name)
    data that delegates share."""

    size: int
    methods: tuple[Method, ...]
    constant_bytes: int
    named: Mapping[str, int]

    def method(self, name: str) -> Method:
        """The method of that name. Raises ArtifactError naming those there are."""
        for method in self.methods:
            if method.name == name:
                return method
        raise ArtifactError(
            f"no method {name!r} in the program, found {', '.join(m.name for m in self.methods)}"
        )


class _File:
    """The parts of the file: its flatbuffer, and segments by index."""

    def __init__(self, data: mmap.mmap) -> None:
        size = len(data)
        head = data[:_HEAD]
        found = head[4:8]
        if size < _HEAD or found[:2] != _IDENTIFIER[:2]:
            raise ArtifactError("it is no ExecuTorch program")
        if found != _IDENTIFIER:
            raise ArtifactError(
                f"its schema is {found.decode('ascii', 'replace')!r}, this reads "
                f"{_IDENTIFIER.decode()!r}; use the executorch release that wrote it"
            )
        self._data = data
        self.size = size
        self._base = 0
        end = size
        if head[_HEADER : _HEADER + 4] == _HEADER_MAGIC:
            length = int.from_bytes(head[12:16], "little")
            end, self._base = (int.from_bytes(head[i : i + 8], "little") for i in (16, 24))
            segments = int.from_bytes(head[32:40], "little") if length > _MIN_HEADER_BYTES else 0
            expected = max(end, self._base + segments)
            if expected > size:
                raise ArtifactError(f"it is truncated: {expected} bytes expected, {size} found")
        self.program = Buffer(data[:end]).root
        self._segments = [
            (entry.number(0, "Q"), entry.number(1, "Q")) for entry in self.program.tables(4)
        ]

    def segment(self, index: int) -> bytes:
        """The bytes of a segment. Raises ArtifactError when there is none of that index."""
        if not self._base or index >= len(self._segments):
            raise ArtifactError(f"it has no segment {index}")
        start, size = self._segments[index]
        start += self._base
        if start + size > len(self._data):
            raise ArtifactError(f"segment {index} leads behind its end: it is truncated")
        return self._data[start : start + size]


def read_program(path: Path) -> Program:
    """The program in ``path``.

    Raises ArtifactError in one line when it is none, damaged, truncated or of another schema.
    """
    with _opened(path) as file:
        return _program(file)


def named_data(path: Path, name: str) -> bytes:
    """Data that delegates share. Raises ArtifactError when the program has none of that name."""
    with _opened(path) as file:
        for entry in file.program.tables(7):
            if entry.text(0) == name:
                return file.segment(entry.number(1, "I"))
        raise ArtifactError(f"it has no data named {name!r}")


@contextmanager
def _opened(path: Path) -> Iterator["_File"]:
    """The file while it is open; what is wrong with it becomes one line with its name."""
    try:
        with path.open("rb") as stream:
            if not path.stat().st_size:
                raise ArtifactError("it is no ExecuTorch program")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield _File(data)
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read ({error.strerror})") from error
    except ArtifactError as error:
        raise ArtifactError(f"{path.name} does not open: {error}") from error


def constant_methods(program: Program) -> list[str]:
    """Names of the methods that take nothing and compute nothing: statements about the model."""
    return [
        method.name
        for method in program.methods
        if not (method.inputs or method.kernels or method.delegate_calls)
    ]


def _program(file: _File) -> Program:
    root = file.program
    inline = [entry.raw(0) for entry in root.tables(3)]
    constants = root.table(5)
    constant_bytes = sum(len(entry.raw(0)) for entry in root.tables(2))
    if constants is not None and constants.numbers(1, "Q"):
        constant_bytes += len(file.segment(constants.number(0, "I")))
    named = {entry.text(0): len(file.segment(entry.number(1, "I"))) for entry in root.tables(7)}
    methods = tuple(_method(plan, file, inline) for plan in root.tables(1))
    return Program(file.size, methods, constant_bytes, named)


def _method(plan: Table, file: _File, inline: list[bytes]) -> Method:
    operators = [_operator(entry) for entry in plan.tables(6)]
    kernels: Counter[str] = Counter()
    calls: list[tuple[int, tuple[int, ...]]] = []
    others = 0
    delegates = tuple(_delegate(entry, file, inline) for entry in plan.tables(7))
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            kind, call = instruction.number(0, "B"), instruction.table(1)
            if call is None or kind not in (_KERNEL, _DELEGATE):
                others += 1
                continue
            index = call.number(0, "i")
            table = operators if kind == _KERNEL else delegates
            if not 0 <= index < len(table):
                raise ArtifactError("an instruction calls what is not there")
            if kind == _KERNEL:
                kernels[operators[index]] += 1
            else:
                calls.append((index, tuple(call.numbers(1, "i"))))
    return Method(
        name=plan.text(0),
        kernels=dict(kernels),
        delegates=delegates,
        delegate_calls=tuple(calls),
        other_instructions=others,
        inputs=tuple(plan.numbers(3, "i")),
        outputs=tuple(plan.numbers(4, "i")),
        planned_bytes=sum(plan.numbers(8, "q")),
    )


def _operator(entry: Table) -> str:
    name, overload = entry.text(0), entry.text(1)
    return f"{name}.{overload}" if overload else name


def _delegate(entry: Table, file: _File, inline: list[bytes]) -> Delegate:
    place = entry.table(1)
    if place is None:
        raise ArtifactError("a delegate has no data")
    index = place.number(1, "I")
    if place.number(0, "b"):
        return Delegate(entry.text(0), file.segment(index))
    if index >= len(inline):
        raise ArtifactError("a delegate has no data")
    return Delegate(entry.text(0), inline[index])
