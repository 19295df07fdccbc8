"""YAML into frozen dataclasses, strictly: every mistake is named by file and line.

The type hints drive it: int, float, str, bool, Path, Literal, ``X | None``, ``tuple[X, ...]``,
tuples of fixed length and nested dataclasses. ``field(metadata=...)`` bounds a value: ``min``,
``max``, ``above`` (exclusive), ``pattern``, ``choices``; bounds of a tuple hold for each item,
``min_items`` for itself. ``dict[str, X]`` is a table, ``pattern`` for its names; with ``keys`` it
has these names, which stand in the section itself, beside the other fields. ``yaml.MappingNode``
keeps keys and values as they stand, to be read later. A ``ValueError`` of ``__post_init__`` (what
single fields cannot say) is reported at the section's line.

Works on PyYAML's node tree and never constructs objects. YAML 1.1 has surprises that are closed
here: ``no`` is no boolean, ``1e-4`` is a number, ``1:30`` is none, a repeated key is an error.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from lpa_export.errors import LpaError

__all__ = ["load_strict", "merge", "named", "out_of_bounds", "read_as", "read_tree"]

Section = TypeVar("Section")

_MAX_BYTES = 64 * 1024
_MAX_DEPTH = 16
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def load_strict(path: Path | str, section: type[Section]) -> Section:
    """Read the YAML file at ``path`` as the dataclass ``section``.

    Relative ``Path`` values start at the folder of the file.
    Raises LpaError ``file:line: what is wrong; what is known`` for the first mistake.
    """
    return read_as(read_tree(path), section)


def read_tree(path: Path | str, what: str = "recipe") -> yaml.MappingNode:
    """The keys and values of the file at ``path``, not yet read as anything.

    Raises LpaError as `load_strict` does, for a file that is no YAML or unsafe.
    """
    path = Path(path)
    text = _read(path, what)
    try:
        _refuse_unsafe(path, text)
        loader = yaml.SafeLoader(text)
        loader.name = str(path)  # each node says which file it is from
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        place = f"{path}:{_line(error.problem_mark)}"
        raise LpaError(f"{place}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise LpaError(f"{path}: not valid YAML: {error}") from error
    if root is None:
        raise LpaError(f"{path}: expected a {what}, found an empty file")
    if not isinstance(root, yaml.MappingNode):
        raise _error(root, f"the {what}: expected keys and values, found {_found(root)}")
    return root


def read_as(tree: yaml.MappingNode, section: type[Section], what: str = "recipe") -> Section:
    """Read keys and values as the dataclass ``section``; raises LpaError as `load_strict` does."""
    result: Section = _Mapper().dataclass(tree, section, f"the {what}")
    return result


def merge(below: yaml.MappingNode, above: yaml.MappingNode) -> yaml.MappingNode:
    """``above`` over ``below``: tables are merged key by key, any other value of ``above`` wins."""
    under = {key.value: value for key, value in below.value if isinstance(key, yaml.ScalarNode)}
    pairs = []
    for key, value in above.value:
        other = under.get(key.value) if isinstance(key, yaml.ScalarNode) else None
        if isinstance(value, yaml.MappingNode) and isinstance(other, yaml.MappingNode):
            value = merge(other, value)
        pairs.append((key, value))
    taken = {key.value for key, _ in above.value if isinstance(key, yaml.ScalarNode)}
    rest = [(key, value) for key, value in below.value if key.value not in taken]
    return yaml.MappingNode(above.tag, rest + pairs, above.start_mark)


def named(name: str, value: yaml.MappingNode) -> yaml.MappingNode:
    """The table ``{name: value}``."""
    key = yaml.ScalarNode("tag:yaml.org,2002:str", name, value.start_mark)
    return yaml.MappingNode(value.tag, [(key, value)], value.start_mark)


def _read(path: Path, what: str) -> str:
    try:
        if not path.is_file():
            raise LpaError(f"{path}: no such {what} file; check the path")
        if path.stat().st_size > _MAX_BYTES:
            raise LpaError(f"{path}: a {what} has at most {_MAX_BYTES // 1024} KiB; shorten it")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LpaError(f"{path}: expected a {what} in UTF-8, found other bytes") from error
    except OSError as error:
        raise LpaError(f"{path}: cannot be read ({error.strerror})") from error


def _refuse_unsafe(path: Path, text: str) -> None:
    """Refuse anchors and aliases (bombs, cycles), tags (objects) and absurd nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        place = f"{path}:{_line(event.start_mark)}"
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise LpaError(f"{place}: anchors and aliases (& and *) are not taken; write it out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise LpaError(f"{place}: tags ({tag}) are not taken; write the plain value")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise LpaError(f"{place}: nested deeper than {_MAX_DEPTH} levels; flatten it")


class _Mapper:
    """Turns nodes into values; ``where`` names the key for messages."""

    def dataclass(self, node: yaml.Node, section: type, where: str) -> Any:
        fields = {field.name: field for field in dataclasses.fields(section) if field.init}
        tables = [field for field in fields.values() if "keys" in field.metadata]
        within = {key: fields.pop(field.name, field) for field in tables for key in _keys(field)}
        hints = typing.get_type_hints(section)
        values: dict[str, Any] = {}
        for key, value in self.mapping(node, where).value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _found(key)
            if name not in fields | within:
                known = ", ".join(sorted(fields | within))
                raise _error(key, f"unknown key {name!r} in {where}; known: {known}")
            table = values.setdefault(within[name].name, {}) if name in within else values
            if name in table:
                raise _error(key, f"key {name!r} in {where} is there twice; keep one")
            if name in within:
                hint = typing.get_args(hints[within[name].name])[1]
                table[name] = self.value(value, hint, f"{name!r}", {})
            else:
                table[name] = self.value(value, hints[name], f"{name!r}", fields[name].metadata)
        missing = [name for name, field in fields.items() if name not in values and _needed(field)]
        if missing:
            raise _error(node, f"{where} lacks {', '.join(map(repr, missing))}; add it")
        try:
            return section(**values)
        except ValueError as error:
            raise _error(node, f"{where}: {error}") from error

    def mapping(self, node: yaml.Node, where: str) -> yaml.MappingNode:
        if not isinstance(node, yaml.MappingNode):
            raise _error(node, f"{where}: expected keys and values, found {_found(node)}")
        return node

    def table(
        self, node: yaml.Node, kind: Any, where: str, bounds: Mapping[str, Any]
    ) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, value in self.mapping(node, where).value:
            name = self.value(key, str, f"a name in {where}", bounds)
            if name in entries:
                raise _error(key, f"key {name!r} in {where} is there twice; keep one")
            entries[name] = self.value(value, kind, f"{name!r}", {})
        return entries

    def value(self, node: yaml.Node, hint: Any, where: str, bounds: Mapping[str, Any]) -> Any:
        origin = typing.get_origin(hint)
        if origin in (Union, types.UnionType):
            return self.optional(node, hint, where, bounds)
        if origin is tuple:
            return self.items(node, typing.get_args(hint), where, bounds)
        if origin is dict:
            return self.table(node, typing.get_args(hint)[1], where, bounds)
        if hint is yaml.MappingNode:
            return self.mapping(node, where)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.dataclass(node, hint, where)
        if origin is Literal:
            return self.choice(node, typing.get_args(hint), where)
        if hint is Path:
            return Path(node.start_mark.name).parent / self.scalar(node, str, where)
        scalar = self.scalar(node, hint, where)
        problem = out_of_bounds(scalar, bounds)
        if problem:
            raise _error(node, f"{where} must be {problem}, found {scalar!r}")
        return scalar

    def optional(self, node: yaml.Node, hint: Any, where: str, bounds: Mapping[str, Any]) -> Any:
        inner = [option for option in typing.get_args(hint) if option is not types.NoneType]
        if len(inner) != 1:
            raise TypeError(f"{where}: only 'X | None' unions can be read, not {hint}")
        if node.tag == "tag:yaml.org,2002:null":
            return None
        return self.value(node, inner[0], where, bounds)

    def items(
        self, node: yaml.Node, kinds: tuple[Any, ...], where: str, bounds: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise _error(node, f"{where}: expected a list, found {_found(node)}")
        count = len(node.value)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * count
        if count != len(kinds):
            raise _error(node, f"{where}: expected {len(kinds)} items, found {count}")
        if count < bounds.get("min_items", 0):
            raise _error(node, f"{where}: expected at least {bounds['min_items']} items")
        pairs = enumerate(zip(node.value, kinds, strict=True))
        return tuple(self.value(item, kind, f"{where}[{i}]", bounds) for i, (item, kind) in pairs)

    def choice(self, node: yaml.Node, choices: tuple[Any, ...], where: str) -> Any:
        known = {str(choice): choice for choice in choices}
        if not isinstance(node, yaml.ScalarNode) or node.value not in known:
            raise _error(node, f"{where}: expected one of {', '.join(known)}, found {_found(node)}")
        return known[node.value]

    def scalar(self, node: yaml.Node, kind: type, where: str) -> Any:
        value = _parsed(node, kind) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            hint = "; put it in quotes" if kind is str and not _is_collection(node) else ""
            raise _error(node, f"{where}: expected {_EXPECTED[kind]}, found {_found(node)}{hint}")
        return value


def _error(node: yaml.Node, problem: str) -> LpaError:
    return LpaError(f"{node.start_mark.name}:{_line(node.start_mark)}: {problem}")


def _parsed(node: yaml.ScalarNode, kind: type) -> Any:
    """The scalar's text as ``kind``, None where it is another."""
    text, quoted = node.value, node.style is not None
    if kind is str:
        return text if quoted or node.tag == "tag:yaml.org,2002:str" else None
    if quoted:
        return None
    if kind is bool:
        return {"true": True, "false": False}.get(text)
    if kind is int:
        # The length bound keeps Python's own limit on digits out of the way.
        return int(text) if len(text) < 20 and _INT.fullmatch(text) else None
    if kind is float:
        number = float(text) if _FLOAT.fullmatch(text) else math.nan
        return number if math.isfinite(number) else None
    raise TypeError(f"no YAML scalar can be read as {kind}")


def out_of_bounds(value: Any, bounds: Mapping[str, Any]) -> str:
    """What ``value`` should have been, empty when it keeps its bounds."""
    if "min" in bounds and value < bounds["min"]:
        return f"at least {bounds['min']}"
    if "max" in bounds and value > bounds["max"]:
        return f"at most {bounds['max']}"
    if "above" in bounds and value <= bounds["above"]:
        return f"above {bounds['above']}"
    if "choices" in bounds and value not in bounds["choices"]:
        return f"one of {', '.join(bounds['choices'])}"
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
        return f"like {bounds['pattern']}"
    return ""


def _keys(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    names: tuple[str, ...] = field.metadata["keys"]
    return names


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_collection(node: yaml.Node) -> bool:
    return not isinstance(node, yaml.ScalarNode)


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


def _found(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "keys and values"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return repr(node.value[:40]) if node.value else "nothing"
