"""Gates: the numbers an exported model must reach against the torch reference.

Each scheme has its own (`lpa_export.formats.schemes`). A recipe may tighten a gate; to loosen one
it must give a reason.
"""

from collections.abc import Mapping

import msgspec

from lpa_export.errors import LpaError

__all__ = ["COMPRESSED_SHARE", "HARDEN_WER_POINTS", "REFERENCE_WER_CEILING", "Gates", "overridden"]

REFERENCE_WER_CEILING = 30.0
"""Percent. A reference above it is broken, and comparing with it proves nothing."""

HARDEN_WER_POINTS = 0.3
"""How many points of WER the hard model may lie above the soft one it came from."""

COMPRESSED_SHARE = 0.95
"""A scheme's name promises smaller weights; an artifact below it keeps the promise for none."""


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artifact must reach against the torch reference; None: no such gate.

    psnr_db: dB between logits; below fails.
    psnr_flag_db: dB; below is remarked upon, without failing.
    argmax_agreement: share of frames with the same best token; below fails.
    wer_difference_points: percentage points of WER above the reference; above fails.
    padding_psnr_db: dB on valid frames between a clip alone and padded; below fails.
    compressed_share: share of the weights' bytes that are really stored in fewer bits, of those
        that the scheme is to compress; below fails.
    reference_wer_ceiling: percent; a reference with a higher WER fails the run.
    """

    psnr_db: float | None
    psnr_flag_db: float | None
    argmax_agreement: float | None
    wer_difference_points: float
    padding_psnr_db: float | None
    reference_wer_ceiling: float = REFERENCE_WER_CEILING
    compressed_share: float | None = None


_LOWER_IS_TIGHTER = frozenset({"wer_difference_points", "reference_wer_ceiling"})


def overridden(
    scheme: str, defaults: Gates, overrides: Mapping[str, float], *, reason: str | None = None
) -> Gates:
    """``defaults`` of a scheme with ``overrides`` (field: value) put in.

    Raises LpaError for a gate looser than its default without a ``reason``.
    """
    for name, value in overrides.items():
        default = getattr(defaults, name)
        if not reason and _is_looser(name, value, default):
            raise LpaError(
                f"{scheme} gate {name} {value:g} is looser than its default {default:g}; "
                "give a 'reason' beside it, or drop it"
            )
    return msgspec.structs.replace(defaults, **overrides)


def _is_looser(name: str, value: float, default: float | None) -> bool:
    if default is None:
        return False
    return value > default if name in _LOWER_IS_TIGHTER else value < default
