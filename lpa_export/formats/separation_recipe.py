"""A recipe of a model that separates or enhances speech: `task: separation` in its YAML file.

As in `recipe`, fields are the keys of the file, types and metadata what they may hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from lpa_export.formats.recipe import ReplacePhases, SweepFit, TrainingSettings
from lpa_export.formats.strict_yaml import load_strict
from lpa_export.hosts.sepformer.config import SepFormerConfig
from lpa_export.layers.config import Pulses

__all__ = [
    "MixingSettings",
    "NoiseSettings",
    "SeparationData",
    "SeparationLPA",
    "SeparationRecipe",
    "SeparationReplace",
    "SeparationTeacher",
    "is_named",
    "load_separation_recipe",
]


def _bounded(default: Any, **bounds: Any) -> Any:
    return field(default=default, metadata=bounds)


@dataclass(frozen=True)
class NoiseSettings:
    """A manifest of noise, and which of it is held out of training.

    ``dev`` and ``test`` are patterns of the path of a recording (``*`` for any text): whole classes
    and whole loops.
    """

    manifest: Path
    dev: tuple[str, ...] = field(metadata={"min_items": 1})
    test: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeparationData:
    """Manifests of clean speech, by speakers that differ from part to part, and noise.

    ``test_list``: the mixtures of ``test`` speech that figures are reported of, stored once.
    """

    train: tuple[Path, ...] = field(metadata={"min_items": 1})
    dev: Path
    noise: NoiseSettings
    test: Path | None = None
    test_list: Path | None = None

    def __post_init__(self) -> None:
        if (self.test is None) != (self.test_list is None):
            raise ValueError("test and test_list belong together: give both or none")


@dataclass(frozen=True)
class MixingSettings:
    """How clips are mixed, anew in every epoch.

    ``clip_seconds`` of each clip; ``snr_db`` of speech over noise and ``level_dbfs`` of the speech
    (root mean square), both drawn evenly from (lowest, highest). ``generated_share`` of the clips
    of training has noise that is generated instead of recorded; of the recorded, ``varied_share``
    is played at another speed and in another colour. ``dev_clips``: how many are mixed
    once for held-out figures, with equal shares of -5, 0, 5, 10 and 15 dB; ``test_clips`` of
    ``test_seconds`` are drawn for the list of test mixtures in the same way.
    """

    clip_seconds: float = _bounded(3.0, above=0.1, max=60.0)
    snr_db: tuple[float, float] = _bounded((-5.0, 15.0), min=-60.0, max=60.0)
    level_dbfs: tuple[float, float] = _bounded((-35.0, -15.0), min=-90.0, max=0.0)
    generated_share: float = _bounded(0.0, min=0.0, max=1.0)
    varied_share: float = _bounded(0.0, min=0.0, max=1.0)
    dev_clips: int = _bounded(60, min=5, max=100_000)
    test_clips: int = _bounded(200, min=5, max=100_000)
    test_seconds: float = _bounded(5.0, above=0.1, max=60.0)

    def __post_init__(self) -> None:
        for name in ("snr_db", "level_dbfs"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is (lowest, highest), found {low:g} to {high:g}")


@dataclass(frozen=True)
class SeparationTeacher:
    """A cycle of training of the attention teacher: a rise and fall of the learning rate.

    An epoch is ``clips_per_epoch`` utterances, ``batch_clips`` an update. ``level_weight``: what a
    dB of wrong level costs beside a dB of SI-SNR, which does not count it. ``average_epochs``: the
    mean of the weights after the last so many epochs is tried too.
    """

    epochs: int = _bounded(100, min=1, max=10_000)
    clips_per_epoch: int = _bounded(1000, min=1, max=10_000_000)
    batch_clips: int = _bounded(2, min=1, max=1000)
    learning_rate: float = _bounded(1e-3, above=0.0, max=1.0)
    warmup_share: float = _bounded(0.05, min=0.0, max=1.0)
    weight_decay: float = _bounded(0.01, min=0.0, max=1.0)
    clip_norm: float = _bounded(5.0, above=0.0, max=1e6)
    level_weight: float = _bounded(0.1, min=0.0, max=100.0)
    average_epochs: int = _bounded(0, min=0, max=10_000)
    seed: int = _bounded(0, min=0, max=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class SeparationLPA(Pulses):
    """Which attention layers become LPA; the rest of the section is the layer's shape.

    ``layers``: those within chunks, those across chunks, or all.
    """

    layers: Literal["intra", "inter", "all"] = "intra"


@dataclass(frozen=True, kw_only=True)
class SeparationReplace(ReplacePhases):
    """The phases of the replacement, and what only separation has.

    An epoch is ``clips_per_epoch`` utterances, ``batch_clips`` an update. ``max_db_per_layer``,
    ``max_db``: a layer that takes away more SI-SNRi than this (held-out mixtures, hard gates,
    before the joint phase), by itself or together with those before it, is not replaced, and none
    after it.
    """

    clips_per_epoch: int = _bounded(1000, min=1, max=10_000_000)
    batch_clips: int = _bounded(2, min=1, max=1000)
    max_db_per_layer: float | None = _bounded(None, min=0.0, max=100.0)
    max_db: float | None = _bounded(None, min=0.0, max=100.0)

    @property
    def limits(self) -> dict[str, float | None]:
        """In dB of SI-SNRi."""
        return {"max_db_per_layer": self.max_db_per_layer, "max_db": self.max_db}


@dataclass(frozen=True, kw_only=True)
class SeparationSweep(SweepFit):
    """The fit, of ``batch_clips`` mixtures a step, as the teacher was trained on; its figures are
    of the held-out mixtures of dev.
    """

    batch_clips: int = _bounded(2, min=1, max=1000)


@dataclass(frozen=True)
class SeparationRecipe:
    """A whole recipe: the model, the speech and noise, and how it is trained and replaced.

    ``refine``: further cycles of the teacher, from what came of those before.
    """

    task: Literal["separation"]
    name: str = field(metadata={"pattern": "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"})
    model: SepFormerConfig
    data: SeparationData
    mixing: MixingSettings = MixingSettings()
    teacher: SeparationTeacher = SeparationTeacher()
    refine: tuple[SeparationTeacher, ...] = ()
    lpa: SeparationLPA = SeparationLPA()
    sweep: SeparationSweep = SeparationSweep()
    replace: SeparationReplace = SeparationReplace()
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        if self.model.sources != 1:
            raise ValueError(
                f"speech is mixed with noise: sources must be 1, found {self.model.sources}"
            )


def is_named(recording: Path, patterns: Iterable[str]) -> bool:
    """Whether its whole path is called by one of the patterns of `NoiseSettings`."""
    return any(fnmatchcase(recording.as_posix(), pattern) for pattern in patterns)


def load_separation_recipe(path: Path | str) -> SeparationRecipe:
    """Read a recipe. Raises LpaError naming the file and line of the first mistake."""
    return load_strict(path, SeparationRecipe)
