"""The shape of a SepFormer, as config.json states it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lpa_export.errors import LpaError

__all__ = ["MODEL_TYPE", "SepFormerConfig"]

MODEL_TYPE = "sepformer"


def _bounded(least: int, most: int) -> Any:
    """A field of whole numbers; a config is not trusted, so they have bounds."""
    return field(metadata={"min": least, "max": most})


@dataclass(frozen=True, kw_only=True)
class SepFormerConfig:
    """The sizes of a SepFormer; what they do not name is as in every recipe of SpeechBrain.

    `sampling_rate` in Hz; `sources` that come out, 1 for enhancement; `filters` of the encoder,
    of `kernel_size` samples every `stride`; `hidden_size` of the masker; `chunk` frames; `blocks`
    of `intra_layers` within a chunk and then `inter_layers` across chunks; `num_attention_heads`
    and `intermediate_size` of each of these layers.

    Fixed: norms before (`norm_before`), sinusoids added in front of each stack of layers, ReLU,
    global norms (`ln`) behind each stack, a skip around the intra-chunk stack, no linear layer.

    Raises ValueError for sizes that make no model.
    """

    sampling_rate: int = _bounded(1000, 192_000)
    sources: int = _bounded(1, 3)
    filters: int = _bounded(1, 4096)
    kernel_size: int = _bounded(2, 4096)
    hidden_size: int = _bounded(2, 4096)
    chunk: int = _bounded(2, 10_000)
    blocks: int = _bounded(1, 64)
    intra_layers: int = _bounded(1, 64)
    inter_layers: int = _bounded(1, 64)
    num_attention_heads: int = _bounded(1, 256)
    intermediate_size: int = _bounded(1, 65_536)

    def __post_init__(self) -> None:
        for part in fields(self):
            value, least, most = getattr(self, part.name), *part.metadata.values()
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{part.name} is {value!r}, expected {least} to {most}")
        rules = (
            (self.kernel_size % 2 == 0, f"kernel_size {self.kernel_size} must be even"),
            (self.hidden_size % 2 == 0, f"hidden_size {self.hidden_size} must be even"),
            (
                self.hidden_size % self.num_attention_heads == 0,
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads "
                f"{self.num_attention_heads}",
            ),
        )
        for holds, message in rules:
            if not holds:
                raise ValueError(message)

    model_type = MODEL_TYPE  # no field: it is what config.json is told apart by

    @classmethod
    def from_json(cls, content: dict[str, Any], place: object) -> SepFormerConfig:
        """The content of a config.json; LpaError, with `place` first, for one that is none."""
        found = content.get("model_type")
        if found != MODEL_TYPE:
            raise LpaError(
                f"{place}: model_type is {found!r}, expected {MODEL_TYPE!r}: a dual-path masker of "
                "transformer layers is the only separator that this tool knows"
            )
        sizes = {key: value for key, value in content.items() if key != "model_type"}
        known = {part.name for part in fields(cls)}
        missing, unknown = sorted(known - sizes.keys()), sorted(sizes.keys() - known)
        if missing or unknown:
            what = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {unknown}"
            raise LpaError(f"{place}: a {MODEL_TYPE} configuration {what}")
        try:
            return cls(**sizes)
        except ValueError as error:
            raise LpaError(f"{place}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """As it stands in config.json."""
        return {"model_type": MODEL_TYPE, **asdict(self)}

    @property
    def stride(self) -> int:
        """Samples from one frame to the next: half a kernel."""
        return self.kernel_size // 2

    @property
    def intra(self) -> tuple[int, ...]:
        """Numbers of the intra-chunk layers: layers are counted in the order of computation."""
        block = self.intra_layers + self.inter_layers
        return tuple(
            first + layer
            for first in range(0, self.blocks * block, block)
            for layer in range(self.intra_layers)
        )

    @property
    def inter(self) -> tuple[int, ...]:
        """Numbers of the inter-chunk layers."""
        every = range(self.blocks * (self.intra_layers + self.inter_layers))
        return tuple(sorted({*every} - {*self.intra}))
