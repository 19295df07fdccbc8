"""How much memory a model takes for so much audio: asked before the work begins.

A process holds what every process of its target holds, the artifact, and what grows with the
audio. Front end and encoder run one after the other and take the same memory, so of these two the
larger counts. What each kind of tensor counts is in `memory.json` beside this module, fitted to
measured peaks by `python tests/runtimes/measure_memory.py`; `memory.md` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import artifacts_size
from lpa_export.formats.manifest import FRAMES_OF_A_PIECE
from lpa_export.measures.machine import available_memory, held_memory

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Frames, Manifest, Sizes

__all__ = [
    "FACTORS",
    "TERMS",
    "Factors",
    "Load",
    "estimate_memory",
    "form_of",
    "known_factors",
    "longest_within",
    "require_memory",
    "terms_of",
]

FACTORS = Path(__file__).with_name("memory.json")

_FLOAT = 4
_MAX_SECONDS = 4 * 3600
_MARGIN = 0.8
"""Of the memory that is free, what an estimate may fill: it is held to 20 %."""


@dataclass(frozen=True)
class Load:
    """A model as its memory depends on it. `attention_layers`: those that were kept."""

    frames: Frames
    sizes: Sizes
    attention_layers: int
    sample_rate: int
    artifact_bytes: int
    front_end: str = "whole"

    @classmethod
    def of(cls, manifest: Manifest) -> Load | None:
        """That of a bundle; None where it was exported before manifests had `sizes`."""
        if manifest.sizes is None:
            return None
        source = manifest.checkpoint
        return cls(
            manifest.frames,
            manifest.sizes,
            source.layers - len(source.replaced_layers),
            manifest.sample_rate,
            artifacts_size(manifest),
            manifest.front_end,
        )


class Factors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the terms of a form count. ``process`` in bytes, all others in bytes per byte of a term.

    ``always``, ``front_end`` and ``encoder`` name terms of `TERMS`; ``made_on`` says where they
    were fitted, ``worst`` how far the worst measured peak is from the estimate, as a share.
    """

    process: int
    artifact: float
    always: dict[str, float]
    front_end: dict[str, float]
    encoder: dict[str, float]
    made_on: str
    worst: float


def _widest_convolution(load: Load, samples: int) -> int:
    return max(
        width * load.frames.count(samples, convolutions=index + 1)
        for index, width in enumerate(load.sizes.front_end)
    )


def _widest_in_piece(load: Load, samples: int) -> int:
    piece = load.frames.receptive_field + (FRAMES_OF_A_PIECE - 1) * load.frames.hop
    return _widest_convolution(load, min(samples, piece))


def _frames(load: Load, samples: int) -> int:
    return load.frames.count(samples, inside=True)


TERMS: Mapping[str, Callable[[Load, int], int]] = {
    "waveform": lambda load, samples: samples,
    "convolution": _widest_convolution,
    "piece": _widest_in_piece,
    "features": lambda load, samples: _frames(load, samples) * load.sizes.front_end[-1],
    "hidden": lambda load, samples: _frames(load, samples) * load.sizes.hidden,
    "feed_forward": lambda load, samples: _frames(load, samples) * load.sizes.feed_forward,
    "windows": lambda load, samples: (
        _frames(load, samples) * load.sizes.hidden * load.sizes.windows
    ),
    "pairs": lambda load, samples: _frames(load, samples) ** 2 if load.attention_layers else 0,
    "position_bias": lambda load, samples: (
        _frames(load, samples) ** 2 * load.sizes.heads * load.sizes.position_bias
    ),
}
"""Kinds of tensors and how many values one has: the waveform, the widest output of the front end,
the same of a piece of it, its last output, a hidden state, the inner state of a feed-forward layer,
one of every window, the scores of one head, a bias of every pair and head."""


def terms_of(load: Load, samples: int) -> dict[str, int]:
    """Bytes of one tensor of each kind, in float32, for so many samples."""
    return {name: _FLOAT * count(load, samples) for name, count in TERMS.items()}


def estimate_memory(manifest: Manifest, seconds: float) -> int | None:
    """Bytes that a process holds at most while it runs a bundle on so many seconds of audio.

    All of the process: runtime, artifact and tensors, in a first run. None where nothing is known:
    a target without factors (those with fixed lengths plan their memory when they are exported),
    or a bundle from before manifests had `sizes`.
    """
    factors, load = known_factors(form_of(manifest)), Load.of(manifest)
    if factors is None or load is None:
        return None
    return _peak(factors, load, round(seconds * manifest.sample_rate))


def longest_within(manifest: Manifest, memory: int) -> float:
    """The most whole seconds of audio whose estimate is within so many bytes, 0 for none.

    At most four hours, which is all that is read. Raises ValueError where nothing is known.
    """
    low, high = 0, _MAX_SECONDS + 1
    while high - low > 1:
        middle = (low + high) // 2
        needed = estimate_memory(manifest, middle)
        if needed is None:
            raise ValueError(f"the memory of target {manifest.target} is not known")
        low, high = (middle, high) if needed <= memory else (low, middle)
    return low


def require_memory(manifest: Manifest, seconds: float, name: str, *, processes: int = 1) -> None:
    """Raise LpaError, naming the recording and the longest that fits, where memory will not do.

    What this process holds already counts as free: the estimate is of all of it. `processes`:
    how many of them share the memory.
    """
    needed = estimate_memory(manifest, seconds)
    if needed is None:
        return
    free = round(_MARGIN * (available_memory() + held_memory()) / processes)
    if needed > free:
        longest = longest_within(manifest, free)
        raise LpaError(
            f"{name}: {seconds:.0f} s of audio take about {needed / 1e9:.1f} GB of memory, of "
            f"which {free / 1e9:.1f} GB can be had here: enough for {longest:.0f} s; cut the "
            "recording into pieces of that length"
        )


def form_of(manifest: Manifest) -> str:
    """The key of a bundle's factors: its target, and how its front end is written."""
    return f"{manifest.target}, {manifest.front_end} front end"


@cache
def known_factors(form: str) -> Factors | None:
    """The factors of a form, None where none were fitted."""
    return msgspec.json.decode(FACTORS.read_bytes(), type=dict[str, Factors]).get(form)


def _peak(factors: Factors, load: Load, samples: int) -> int:
    terms = terms_of(load, samples)

    def together(part: Mapping[str, float]) -> float:
        return sum(factor * terms[name] for name, factor in part.items())

    constant = factors.process + factors.artifact * load.artifact_bytes
    larger = max(together(factors.front_end), together(factors.encoder))
    return round(constant + together(factors.always) + larger)
