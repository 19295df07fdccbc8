"""Schemes: how an artifact keeps its numbers, and what it must reach with them.

One tolerance for all of them either hides a broken fp32 export or fails every int8 one, so each
way of keeping numbers is a row with gates of its own. A further way to store weights is one row.
"""

from collections.abc import Mapping

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.gates import COMPRESSED_SHARE, Gates, overridden

__all__ = ["PALETTES", "SCHEMES", "Scheme", "SchemeSpec", "resolve_gates", "scheme_named"]

_FLOATS = ("fp32", "fp16", "bf16")


class Scheme(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How numbers are kept: ``compute`` is what sums and products are made in.

    ``name`` is what ``--precision`` and ``--quantize`` choose by, and finds the gates.
    """

    name: str
    compute: str
    weights: str
    activations: str

    @property
    def compresses(self) -> bool:
        """Whether weights are kept in fewer bits than a float."""
        return self.weights not in _FLOATS


class SchemeSpec(msgspec.Struct, frozen=True):
    """A scheme with what an artifact in it must reach.

    ``tap_floor_db``: PSNR in dB that every tap of the written artifact reaches on the golden
    clips, else the export fails.
    """

    scheme: Scheme
    gates: Gates
    tap_floor_db: float


def _row(name: str, kept: tuple[str, str, str], gates: Gates, tap_floor_db: float) -> SchemeSpec:
    compute, weights, activations = kept
    scheme = Scheme(name=name, compute=compute, weights=weights, activations=activations)
    if scheme.compresses:
        gates = msgspec.structs.replace(gates, compressed_share=COMPRESSED_SHARE)
    return SchemeSpec(scheme, gates, tap_floor_db)


_ROWS = (
    _row("fp32", ("fp32", "fp32", "fp32"), Gates(90.0, None, 0.999, 0.0, 60.0), 80.0),
    _row("fp16", ("fp16", "fp16", "fp16"), Gates(40.0, 50.0, 0.995, 0.1, None), 40.0),
    # Eight bits of a fraction are three fewer than eleven: 18 dB below fp16.
    _row("bf16", ("bf16", "bf16", "bf16"), Gates(22.0, 32.0, 0.98, 0.3, None), 22.0),
    _row("int8", ("int8", "int8", "int8"), Gates(None, 50.0, None, 0.3, None), 20.0),
    _row("palette6", ("fp16", "palette6", "fp16"), Gates(None, 35.0, None, 0.5, None), 20.0),
    _row("int4", ("fp32", "int4", "fp32"), Gates(None, 35.0, None, 0.5, None), 10.0),
    _row("palette4", ("fp16", "palette4", "fp16"), Gates(None, 35.0, None, 0.5, None), 10.0),
)

SCHEMES: Mapping[str, SchemeSpec] = {row.scheme.name: row for row in _ROWS}
"""By name. Palettes are of 64 (6 bits) and 16 (4 bits) values, their products in fp16."""

PALETTES = tuple(name for name in SCHEMES if name.startswith("palette"))


def scheme_named(name: str, **changes: str) -> Scheme:
    """The row's scheme, with what a target does otherwise (``compute="fp16"``) put in.

    Raises LpaError for an unknown name.
    """
    if name not in SCHEMES:
        raise LpaError(f"unknown scheme {name!r}; known: {', '.join(SCHEMES)}")
    return msgspec.structs.replace(SCHEMES[name].scheme, **changes)


def resolve_gates(name: str, overrides: Mapping[str, float], *, reason: str | None = None) -> Gates:
    """The gates of the scheme ``name`` with ``overrides`` (field: value) put in.

    Raises LpaError for an unknown scheme, and for a gate looser than its default without a
    ``reason``.
    """
    scheme_named(name)
    return overridden(name, SCHEMES[name].gates, overrides, reason=reason)
