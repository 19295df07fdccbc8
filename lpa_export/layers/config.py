"""The sizes and bounds of one LPA layer."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Anchor = Literal["frame", "utterance"]


@dataclass(frozen=True)
class LPAConfig:
    """Sizes and bounds of one layer; lengths in frames.

    `aperiodic`, `periodic` and `positional` count the pulses of each family per head. `anchor`:
    an aperiodic window lies near its own frame, or is one for all frames of the utterance.
    Raises ValueError for sizes that cannot make a layer.
    """

    hidden_size: int
    num_heads: int
    aperiodic: int = 2
    periodic: int = 1
    positional: int = 1
    kernel_size: int = 15
    max_offset: float = 16.0
    min_width: float = 1.0
    max_width: float = 32.0
    min_period: float = 4.0
    max_period: float = 512.0
    anchor: Anchor = "frame"

    def __post_init__(self) -> None:
        counts = (self.aperiodic, self.periodic, self.positional)
        rules = (
            (self.hidden_size >= 1, f"hidden_size must be positive, found {self.hidden_size}"),
            (self.num_heads >= 1, f"num_heads must be positive, found {self.num_heads}"),
            (
                self.num_heads >= 1 and self.hidden_size % self.num_heads == 0,
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}",
            ),
            (min(counts) >= 0, f"pulse counts must not be negative, found {counts}"),
            (sum(counts) >= 1, "a head needs at least one pulse, found none in any family"),
            (
                self.kernel_size >= 1 and self.kernel_size % 2 == 1,
                f"kernel_size must be odd and positive, found {self.kernel_size}",
            ),
            (self.max_offset > 0, f"max_offset must be positive, found {self.max_offset}"),
            (
                1.0 <= self.min_width < self.max_width,
                f"widths must hold 1 <= min < max, found {self.min_width} and {self.max_width}",
            ),
            (
                1.0 <= self.min_period < self.max_period,
                f"periods must hold 1 <= min < max, found {self.min_period} and {self.max_period}",
            ),
            (
                self.anchor in get_args(Anchor),
                f"anchor must be one of {', '.join(get_args(Anchor))}, found {self.anchor!r}",
            ),
        )
        for holds, message in rules:
            if not holds:
                raise ValueError(message)

    @property
    def head_size(self) -> int:
        """Channels of one head, d = D / H."""
        return self.hidden_size // self.num_heads

    @property
    def pulses(self) -> int:
        """Pulses of one head over all families, K = K_a + K_p + K_s."""
        return self.aperiodic + self.periodic + self.positional

    @property
    def moving(self) -> int:
        """Aperiodic pulses of one head whose windows move from frame to frame."""
        return self.aperiodic if self.anchor == "frame" else 0

    @property
    def band(self) -> int:
        """L: no aperiodic window of frame t reaches a frame s with |s - t| > L."""
        return math.ceil(self.max_offset + self.max_width / 2)

    @property
    def controls(self) -> int:
        """Control logits per frame: offset and width of the moving pulses, every amplitude."""
        return self.num_heads * (2 * self.moving + self.pulses)
