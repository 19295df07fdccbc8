"""What is done to a waveform before the model: read where transformers reads it, in its order.

transformers 5 writes the feature extractor into `processor_config.json`, older ones into
`preprocessor_config.json`; where the first has one, the second is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.json_files import read_json_if_there

__all__ = ["PREPROCESSOR", "PROCESSOR", "Preprocessing", "read_preprocessing"]

PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"

_EXTRACTOR = "Wav2Vec2FeatureExtractor"


@dataclass(frozen=True)
class Preprocessing:
    """`sampling_rate` in Hz; `do_normalize`: to zero mean and unit variance, per utterance.

    `padding_value` lies behind the samples of shorter utterances of a batch, where no model may
    look: it changes no result here, and is kept for those who read the checkpoint again.
    """

    do_normalize: bool = True
    sampling_rate: int = SAMPLE_RATE
    padding_value: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As in `preprocessor_config.json`."""
        return {
            "feature_extractor_type": _EXTRACTOR,
            "feature_size": 1,
            "sampling_rate": self.sampling_rate,
            "padding_value": self.padding_value,
            "do_normalize": self.do_normalize,
            "return_attention_mask": True,
        }


def read_preprocessing(folder: Path) -> Preprocessing:
    """The feature extractor of a checkpoint folder; transformers' defaults where none is stated.

    Raises LpaError for one that is no plain waveform in, waveform out at 16 kHz.
    """
    file, stated = _stated(folder)
    kind = stated.get("feature_extractor_type") or _EXTRACTOR
    if kind != _EXTRACTOR:
        raise LpaError(
            f"{file}: feature extractor {kind!r} is not known; expected {_EXTRACTOR}, which "
            "takes the waveform itself"
        )
    size = stated.get("feature_size", 1)
    if size != 1:
        raise LpaError(f"{file}: feature_size is {size!r}; expected 1, a waveform of one channel")
    normalize = stated.get("do_normalize", True)
    if not isinstance(normalize, bool):
        raise LpaError(f"{file}: do_normalize must be true or false, found {normalize!r}")
    padding = stated.get("padding_value", 0.0)
    if isinstance(padding, bool) or not isinstance(padding, int | float):
        raise LpaError(f"{file}: padding_value must be a number, found {padding!r}")
    rate = stated.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise LpaError(
            f"{file}: sampling_rate is {rate!r}, but all audio here is brought to {SAMPLE_RATE} "
            f"Hz; take a model trained at {SAMPLE_RATE} Hz, or fine-tune this one on such audio"
        )
    return Preprocessing(normalize, SAMPLE_RATE, float(padding))


def _stated(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that states the feature extractor, and what it says; nothing where none does."""
    processor = read_json_if_there(folder / PROCESSOR)
    for key in ("feature_extractor", "audio_processor"):
        if isinstance(processor.get(key), dict):
            return folder / PROCESSOR, processor[key]
    return folder / PREPROCESSOR, read_json_if_there(folder / PREPROCESSOR)
