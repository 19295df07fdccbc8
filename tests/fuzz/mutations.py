"""Ways to damage a file: its bytes, its JSON, its YAML, its protobuf, a length before a header.

Every function takes the whole file and a ``random.Random`` and gives another file.
"""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

__all__ = ["Mutate", "any_bytes", "any_json", "any_lines", "any_message", "any_safetensors"]

Mutate = Callable[[bytes, Random], bytes]

_WORDS = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8)

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**31 - 1, 2**63, -(2**63), 10**30),
    *(0.0, -0.5, 1e308, -1e308, float("nan"), float("inf"), 1e-320),
    *("", " ", "\0", "\ud800", "a\nb", "../../outside", "/etc/passwd", "x" * 5_000, "-1", "1e9"),
    *([], {}, [[]], [None], {"": None}, [0] * 3_000, {"a": {"b": {"c": []}}}),
)
_NUMBERS = (0, 1, -1, 2, 7, 127, 2**15, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63))
_TEXTS = ("", "x", "../../outside", "/etc/passwd", "Identity", "Loop", "Resize", "main", "\u202e")


def any_bytes(content: bytes, random: Random) -> bytes:
    """One to four changes: bits, words of extreme numbers, parts lost, doubled or swapped."""
    for _ in range(random.choice((1, 1, 2, 4))):
        content = random.choice(_OF_BYTES)(content, random)
    return content


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return b"\0"
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _extreme(content: bytes, random: Random) -> bytes:
    word, at = random.choice(_WORDS), _place(content, random)
    return content[:at] + word + content[at + len(word) :]


def _shorter(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _without(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + content[at + random.choice((1, 4, 64, 1_000)) :]


def _doubled(content: bytes, random: Random) -> bytes:
    at, length = _place(content, random), random.choice((1, 4, 64, 1_000))
    return content[: at + length] + content[at:]


def _added(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + random.randbytes(random.choice((1, 4, 64))) + content[at:]


def _place(content: bytes, random: Random) -> int:
    """Anywhere, more often near the start: that is where headers are."""
    high = len(content) if random.random() < 0.5 else min(len(content), 256)
    return random.randrange(high) if high else 0


_OF_BYTES: tuple[Mutate, ...] = (
    _flip,
    _flip,
    _extreme,
    _extreme,
    _shorter,
    _without,
    _doubled,
    _added,
)


def any_json(content: bytes, random: Random) -> bytes:
    """Mostly one value, key or item of the tree; sometimes bytes, a key twice, deep nesting."""
    kind = random.random()
    if kind < 0.15:
        return any_bytes(content, random)
    if kind < 0.18:
        return b"[" * 100_000
    tree = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        tree = _changed(tree, random)
    text = json.dumps(tree)
    if kind < 0.22 and text.startswith("{") and len(text) > 2:
        text = f"{text[:-1]}, {text[1:]}"
    return text.encode("utf-8", "surrogatepass")


def _changed(tree: Any, random: Random) -> Any:
    """The tree with one place in it changed: replaced, removed, renamed, doubled."""
    places = list(_places(tree))
    if not places:
        return deepcopy(random.choice(_VALUES))
    holder, key = random.choice(places)
    how = random.random()
    if how < 0.6:
        holder[key] = _another(holder[key], random)
    elif how < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[random.choice(("x", "", str(key).upper(), "__class__"))] = holder.pop(key)
    else:
        holder.insert(key, deepcopy(holder[key]))
    return tree


def _another(value: Any, random: Random) -> Any:
    """Near what is there, or anything."""
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.5:
        return random.choice((value + 1, value - 1, -value, value * 1_000, value * 10**6))
    return deepcopy(random.choice(_VALUES))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = tree.keys() if isinstance(tree, dict) else ()
    if isinstance(tree, list):
        keys = range(len(tree))
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def any_lines(content: bytes, random: Random) -> bytes:
    """A text of lines: bytes, or lines lost, doubled, moved, indented, another value given."""
    if random.random() < 0.3:
        return any_bytes(content, random)
    lines = content.decode("utf-8").splitlines()
    at = random.randrange(len(lines))
    how = random.randrange(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(random.randrange(len(lines)), lines[at])
    elif how == 2:
        lines[at] = random.choice((" ", "  ", "\t", "- ")) + lines[at]
    else:
        key, colon, _ = lines[at].partition(":")
        value = random.choice((*_VALUES, "!!python/name:os.system", "*a", "&a [*a]", "1:30", "~"))
        lines[at] = f"{key}{colon} {value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def any_safetensors(content: bytes, random: Random) -> bytes:
    """The header's JSON, the length before it, or bytes."""
    if random.random() < 0.2:
        return any_bytes(content, random)
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = content[8 : 8 + length], content[8 + length :]
    header = any_json(header, random)
    stated = len(header)
    if random.random() < 0.15:
        stated = random.choice((0, stated + 1, stated - 1, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", stated) + header + tensors


def any_message(message: type[Any]) -> Mutate:
    """Fields of a protobuf message of that class, anywhere in its tree; sometimes bytes."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.random() < 0.2:
            return any_bytes(content, random)
        tree = message()
        tree.ParseFromString(content)
        for _ in range(random.choice((1, 1, 2, 3))):
            with suppress(
                ValueError, TypeError, AttributeError
            ):  # a field that takes no such value
                _change_message(tree, random)
        changed: bytes = tree.SerializeToString()
        return changed

    return mutate


def _change_message(tree: Any, random: Random) -> None:
    """One field of one message below ``tree``: a walk down that may stop anywhere."""
    while True:
        fields = tree.ListFields()
        if not fields:
            return
        field, value = random.choice(fields)
        below = _messages(field, value)
        if not below or random.random() < 0.08:
            break
        tree = random.choice(below)
    how = random.random()
    if how < 0.15:
        tree.ClearField(field.name)
    elif not hasattr(value, "append") and not below:
        setattr(tree, field.name, _scalar(value, random))
    elif how < 0.4 and hasattr(value, "append") and len(value):
        del value[random.randrange(len(value))]
    elif hasattr(value, "append") and not below and len(value):
        value[random.randrange(len(value))] = _scalar(value[0], random)
    elif hasattr(value, "add") and below:
        value.add().CopyFrom(random.choice(below))


def _messages(field: Any, value: Any) -> list[Any]:
    """The messages that a field holds; of a map, its values."""
    if field.message_type is None:
        return []
    if field.message_type.GetOptions().map_entry:
        return [item for item in value.values() if hasattr(item, "ListFields")]
    return list(value) if hasattr(value, "append") else [value]


def _scalar(value: Any, random: Random) -> Any:
    """Of the same type; a number that a narrow field does not take is cut to 31 bits."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        number = random.choice((*_NUMBERS, value + 1, value - 1, value * 1_000))
        return number if abs(value) >= 2**31 else max(0, number) % 2**31
    if isinstance(value, float):
        return random.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if isinstance(value, bytes):
        return any_bytes(value, random)
    return random.choice(_TEXTS)
