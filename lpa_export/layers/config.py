"""The shape of a layer, said once: in a recipe, in a checkpoint and in the layer itself."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Anchor = Literal["frame", "utterance"]


def _bounded(default: Any, **bounds: Any) -> Any:
    return field(default=default, metadata=bounds)


@dataclass(frozen=True, kw_only=True)
class Pulses:
    """What an LPA layer is, whatever model it stands in; lengths in frames.

    `aperiodic`, `periodic` and `positional` count the pulses of each family per head. `anchor`:
    an aperiodic window lies near its own frame, or is one for all frames of the utterance (to
    compare with: no target exports it). The metadata of a field bounds what a recipe may ask for.
    Raises ValueError for a shape that makes no layer.
    """

    aperiodic: int = _bounded(2, min=0, max=64)
    periodic: int = _bounded(1, min=0, max=64)
    positional: int = _bounded(1, min=0, max=64)
    kernel_size: int = _bounded(15, min=1, max=255)
    max_offset: float = _bounded(16.0, above=0.0, max=1000.0)
    min_width: float = _bounded(1.0, min=1.0, max=1000.0)
    max_width: float = _bounded(32.0, min=1.0, max=1000.0)
    min_period: float = _bounded(4.0, min=1.0, max=10_000.0)
    max_period: float = _bounded(512.0, min=1.0, max=10_000.0)
    anchor: Anchor = "frame"

    def __post_init__(self) -> None:
        counts = (self.aperiodic, self.periodic, self.positional)
        rules = (
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
    def shape(self) -> dict[str, Any]:
        """The fields of `Pulses` by name: of a layer without its sizes, of a recipe's section too.

        `LPAConfig(hidden_size, num_heads, **pulses.shape)` is a layer of this shape.
        """
        return {part.name: getattr(self, part.name) for part in fields(Pulses)}

    @property
    def moving(self) -> int:
        """Aperiodic pulses of one head whose windows move from frame to frame."""
        return self.aperiodic if self.anchor == "frame" else 0

    @property
    def pulses(self) -> int:
        """Pulses of one head over all families, K = K_a + K_p + K_s."""
        return self.aperiodic + self.periodic + self.positional

    @property
    def band(self) -> int:
        """L: no aperiodic window of frame t reaches a frame s with |s - t| > L."""
        return math.ceil(self.max_offset + self.max_width / 2)


@dataclass(frozen=True)
class LPAConfig(Pulses):
    """The pulses of one layer, and the sizes that its host gives it.

    Raises ValueError for sizes that cannot make a layer.
    """

    hidden_size: int
    num_heads: int

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        super().__post_init__()

    @property
    def head_size(self) -> int:
        """Channels of one head, d = D / H."""
        return self.hidden_size // self.num_heads

    @property
    def controls(self) -> int:
        """Control logits per frame: offset and width of the moving pulses, every amplitude."""
        return self.num_heads * (2 * self.moving + self.pulses)
