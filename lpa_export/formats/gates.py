"""The numbers an exported model must reach, per precision.

One tolerance for every precision either hides a broken fp32 export or fails every int8 one, so
each precision has its own row. A recipe may tighten a gate; to loosen one it must give a reason.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from lpa_export.errors import LpaError

__all__ = ["GATES", "HARDEN_WER_POINTS", "REFERENCE_WER_CEILING", "Gates", "resolve_gates"]

REFERENCE_WER_CEILING = 30.0
"""Percent. A reference above it is broken, and comparing with it proves nothing."""

HARDEN_WER_POINTS = 0.3
"""How many points of WER the hard model may lie above the soft one it came from."""


@dataclass(frozen=True)
class Gates:
    """What an artifact must reach against the torch reference; None: no such gate.

    psnr_db: dB between logits; below fails.
    psnr_flag_db: dB; below is remarked upon, without failing.
    argmax_agreement: share of frames with the same best token; below fails.
    wer_difference_points: percentage points of WER above the reference; above fails.
    padding_psnr_db: dB on valid frames between a clip alone and padded; below fails.
    reference_wer_ceiling: percent; a reference with a higher WER fails the run.
    """

    psnr_db: float | None
    psnr_flag_db: float | None
    argmax_agreement: float | None
    wer_difference_points: float
    padding_psnr_db: float | None
    reference_wer_ceiling: float = REFERENCE_WER_CEILING

    def to_json(self) -> dict[str, float | None]:
        """The gates as they stand in ``manifest.json``."""
        return asdict(self)


GATES: Mapping[str, Gates] = {
    "fp32": Gates(90.0, None, 0.999, 0.0, 60.0),
    "fp16": Gates(40.0, 50.0, 0.995, 0.1, None),
    "int8": Gates(None, 50.0, None, 0.3, None),
    "palette6": Gates(None, 35.0, None, 0.5, None),
    "palette4": Gates(None, 35.0, None, 0.5, None),
}
"""The defaults by precision. Palettes are of 64 (6 bits) and 16 (4 bits) values."""

_LOWER_IS_TIGHTER = frozenset({"wer_difference_points", "reference_wer_ceiling"})


def resolve_gates(
    precision: str, overrides: Mapping[str, float], *, reason: str | None = None
) -> Gates:
    """The default gates of ``precision`` with ``overrides`` (field: value) put in.

    Raises LpaError for an unknown precision, and for a gate looser than its default without a
    ``reason``.
    """
    if precision not in GATES:
        raise LpaError(f"unknown precision {precision!r}; known: {', '.join(GATES)}")
    defaults = GATES[precision]
    for name, value in overrides.items():
        default = getattr(defaults, name)
        if not reason and _is_looser(name, value, default):
            raise LpaError(
                f"{precision} gate {name} {value:g} is looser than its default {default:g}; "
                "give a 'reason' beside it, or drop it"
            )
    return replace(defaults, **overrides)


def _is_looser(name: str, value: float, default: float | None) -> bool:
    if default is None:
        return False
    return value > default if name in _LOWER_IS_TIGHTER else value < default
