"""A recipe: one YAML file per model, what to replace, how to train, what must hold.

Each section is a frozen dataclass; its fields are the keys the file may have, their types and
metadata the values. To add a setting, add a field. Paths start at the recipe's own folder.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from lpa_export.errors import LpaError
from lpa_export.formats.gates import HARDEN_WER_POINTS, REFERENCE_WER_CEILING, Gates
from lpa_export.formats.schemes import SCHEMES, resolve_gates
from lpa_export.formats.strict_yaml import load_strict
from lpa_export.layers.config import Pulses

__all__ = [
    "ArchitectureSettings",
    "DataSettings",
    "GateOverrides",
    "GatesSettings",
    "LPASettings",
    "ModelSettings",
    "Recipe",
    "ReplacePhases",
    "ReplaceSettings",
    "SweepFit",
    "SweepSettings",
    "TeacherSettings",
    "TrainingSettings",
    "load_recipe",
]


def _bounded(default: Any, **bounds: Any) -> Any:
    return field(default=default, metadata=bounds)


def _require_falling(name: str, temperatures: tuple[float, float]) -> None:
    start, end = temperatures
    if end > start:
        raise ValueError(f"{name} must fall, found {start:g} to {end:g}")


@dataclass(frozen=True)
class DataSettings:
    """Manifests of real speech and the folder of synthetic voices that training adds to it.

    Training chooses its best weights by ``dev``; only the sweep does without. ``dev_speakers`` of
    ``train`` are not trained on and belong to dev. ``spliced``: so many utterances more are put
    together from the pieces of ``train``, speaker by speaker, as soon as there is a model that
    finds the words: from ``refine`` on.
    """

    train: tuple[Path, ...] = field(metadata={"min_items": 1})
    dev: Path | None = None
    dev_speakers: tuple[str, ...] = ()
    synthetic: Path | None = None
    spliced: int = _bounded(0, min=0, max=1_000_000)


@dataclass(frozen=True)
class ArchitectureSettings:
    """A wav2vec2 to train from scratch, in the words of Hugging Face's ``Wav2Vec2Config``.

    ``norm`` says where the encoder's layer norms stand: ``post`` as in wav2vec2-base, ``pre`` as
    in wav2vec2-large-lv60 (``do_stable_layer_norm``).
    """

    hidden_size: int = field(metadata={"min": 8, "max": 4096})
    layers: int = field(metadata={"min": 1, "max": 96})
    heads: int = field(metadata={"min": 1, "max": 64})
    intermediate_size: int = field(metadata={"min": 8, "max": 16384})
    conv_dim: tuple[int, ...] = field(metadata={"min": 1, "max": 4096, "min_items": 1})
    conv_kernel: tuple[int, ...] = field(metadata={"min": 1, "max": 1024, "min_items": 1})
    conv_stride: tuple[int, ...] = field(metadata={"min": 1, "max": 1024, "min_items": 1})
    feat_extract_norm: Literal["group", "layer"] = "group"
    conv_bias: bool = False
    positional_kernel: int = _bounded(128, min=1, max=1024)
    positional_groups: int = _bounded(16, min=1, max=1024)
    norm: Literal["pre", "post"] = "post"

    def __post_init__(self) -> None:
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        if len(lengths) != 1:
            raise ValueError("conv_dim, conv_kernel and conv_stride must be of the same length")
        for name, parts in (("heads", self.heads), ("positional_groups", self.positional_groups)):
            if self.hidden_size % parts:
                raise ValueError(
                    f"hidden_size {self.hidden_size} must be a multiple of {name} {parts}"
                )


@dataclass(frozen=True)
class ModelSettings:
    """The model to start from: a hub id or folder, or an architecture to train from scratch."""

    checkpoint: str | None = None
    architecture: ArchitectureSettings | None = None

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.architecture is None):
            raise ValueError("needs either 'checkpoint' or 'architecture', and not both")


@dataclass(frozen=True)
class TeacherSettings:
    """CTC training of the attention teacher from scratch.

    ``warmup_share``: share of all steps. ``batch_seconds``: seconds of audio. ``time_mask_*``
    and ``feature_mask_*``: SpecAugment as in wav2vec2, probabilities and lengths (frames,
    channels). ``speeds``: factors of speed perturbation. ``noise_share``: share of the clips that
    get noise. ``intermediate_ctc``: weight of the CTC loss of the middle layer. ``average_epochs``:
    the mean of the weights after the last so many epochs is tried too. ``frontend_steps``: steps
    that fit the front end to a log-mel spectrogram first, 0 for none.
    """

    epochs: int = _bounded(100, min=1, max=10_000)
    learning_rate: float = _bounded(1e-3, above=0.0, max=1.0)
    warmup_share: float = _bounded(0.1, min=0.0, max=1.0)
    batch_seconds: float = _bounded(60.0, above=0.0, max=3600.0)
    weight_decay: float = _bounded(0.01, min=0.0, max=1.0)
    time_mask_probability: float = _bounded(0.05, min=0.0, max=0.9)
    time_mask_length: int = _bounded(10, min=1, max=200)
    feature_mask_probability: float = _bounded(0.0, min=0.0, max=0.9)
    feature_mask_length: int = _bounded(10, min=1, max=512)
    speeds: tuple[float, ...] = _bounded((0.9, 1.0, 1.1), min=0.5, max=2.0, min_items=1)
    noise_share: float = _bounded(0.3, min=0.0, max=1.0)
    dropout: float = _bounded(0.1, min=0.0, max=0.9)
    intermediate_ctc: float = _bounded(0.3, min=0.0, max=1.0)
    average_epochs: int = _bounded(0, min=0, max=10_000)
    frontend_steps: int = _bounded(400, min=0, max=100_000)
    frontend_learning_rate: float = _bounded(2e-3, above=0.0, max=1.0)
    seed: int = _bounded(0, min=0, max=2**31 - 1)


@dataclass(frozen=True)
class TrainingSettings:
    """How the updates are computed, the same in every stage.

    ``precision`` bf16: matrix products in bfloat16; weights, their updates and the pulses stay
    float32. ``accumulate``: so many batches make one update. ``tensorboard``: event files beside
    the logs (needs the tensorboard package). ``optimizer`` muon: the encoder's matrices are updated
    by Muon, everything else by AdamW.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = _bounded(1, min=1, max=10_000)
    tensorboard: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"


@dataclass(frozen=True, kw_only=True)
class LPASettings(Pulses):
    """Which attention layers become LPA; the rest of the section is the layer's shape."""

    layers: tuple[int, ...] = field(metadata={"min": 0, "max": 95})

    def __post_init__(self) -> None:
        if len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers must differ, found {list(self.layers)}")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class SweepFit:
    """The sweep: an LPA fitted to the attention output of every layer, on the same budget.

    ``temperature`` is (start, end) in frames.
    """

    steps: int = _bounded(200, min=1, max=1_000_000)
    learning_rate: float = _bounded(2e-3, above=0.0, max=1.0)
    temperature: tuple[float, float] = _bounded((2.0, 0.3), above=0.0, max=100.0)
    seed: int = _bounded(0, min=0, max=2**31 - 1)

    def __post_init__(self) -> None:
        _require_falling("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class SweepSettings(SweepFit):
    """The fit, and the speech that it hears.

    ``seconds`` of real speech are used, ``held_out_share`` of them for the figures: of
    ``data.dev`` where the recipe names it, else of training speakers (utterances, where speakers
    are not known) that are kept from the fit. ``batch_seconds``: seconds of audio a step.
    """

    batch_seconds: float = _bounded(30.0, above=0.0, max=3600.0)
    seconds: float = _bounded(600.0, above=0.0, max=360_000.0)
    held_out_share: float = _bounded(0.2, above=0.0, max=0.9)


@dataclass(frozen=True, kw_only=True)
class ReplacePhases:
    """Progressive replacement: one layer after another, then all of them jointly.

    Temperatures are (start, end) in frames. ``hidden_weight`` weighs the distance from the
    teacher's hidden states. ``initialise``: an LPA starts at random, with the value and output
    projections of the attention, or also with windows fitted to its attention maps.
    ``curriculum``: temperatures fall; without it the last one holds throughout. ``co_adapt``: the
    rest of an encoder layer (in the joint phase of the model behind its front end) learns along
    with its LPA. ``hard_forward``: the joint phase runs with hard gates and the gradient of the
    soft ones.
    """

    epochs_per_layer: int = _bounded(2, min=1, max=10_000)
    joint_epochs: int = _bounded(8, min=1, max=10_000)
    layer_temperature: tuple[float, float] = _bounded((2.0, 0.3), above=0.0, max=100.0)
    joint_temperature: tuple[float, float] = _bounded((0.3, 0.1), above=0.0, max=100.0)
    learning_rate: float = _bounded(1e-3, above=0.0, max=1.0)
    joint_learning_rate: float = _bounded(5e-4, above=0.0, max=1.0)
    hidden_weight: float = _bounded(1.0, min=0.0, max=1000.0)
    average_epochs: int = _bounded(0, min=0, max=10_000)
    initialise: Literal["none", "projections", "attention"] = "attention"
    curriculum: bool = True
    co_adapt: bool = True
    hard_forward: bool = True
    seed: int = _bounded(0, min=0, max=2**31 - 1)

    def __post_init__(self) -> None:
        _require_falling("layer_temperature", self.layer_temperature)
        _require_falling("joint_temperature", self.joint_temperature)

    @property
    def limits(self) -> dict[str, float | None]:
        """By their names: what a layer may cost by itself, and with those before it."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ReplaceSettings(ReplacePhases):
    """The phases, and what only recognition has.

    ``logit_weight`` weighs the distance from the teacher's logits, beside CTC. ``joint_augment``:
    the joint phase runs with the dropout and SpecAugment that the teacher was trained with.
    ``max_wer_points_per_layer``, ``max_wer_points``: a layer that adds more WER than this
    (percentage points, on ``dev``, hard gates, before the joint phase), by itself or together with
    those before it, is not replaced, and none after it.
    """

    logit_weight: float = _bounded(1.0, min=0.0, max=1000.0)
    batch_seconds: float = _bounded(60.0, above=0.0, max=3600.0)
    joint_augment: bool = True
    max_wer_points_per_layer: float | None = _bounded(None, min=0.0, max=100.0)
    max_wer_points: float | None = _bounded(None, min=0.0, max=100.0)

    @property
    def limits(self) -> dict[str, float | None]:
        """In points of WER."""
        return {
            "max_wer_points_per_layer": self.max_wer_points_per_layer,
            "max_wer_points": self.max_wer_points,
        }


@dataclass(frozen=True)
class GateOverrides:
    """Gates of one scheme that differ from the defaults; looser ones need a reason."""

    psnr_db: float | None = _bounded(None, min=0.0, max=300.0)
    psnr_flag_db: float | None = _bounded(None, min=0.0, max=300.0)
    argmax_agreement: float | None = _bounded(None, min=0.0, max=1.0)
    wer_difference_points: float | None = _bounded(None, min=0.0, max=100.0)
    padding_psnr_db: float | None = _bounded(None, min=0.0, max=300.0)
    compressed_share: float | None = _bounded(None, min=0.0, max=1.0)
    reason: str | None = None

    def given(self) -> dict[str, float]:
        """Gate name to value, of the gates that are set."""
        values = asdict(self)
        del values["reason"]
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class GatesSettings:
    """Overrides by scheme, each under its name; ``reason`` is for what holds for all of them."""

    reference_wer_ceiling: float = _bounded(REFERENCE_WER_CEILING, min=0.0, max=100.0)
    reason: str | None = None
    schemes: dict[str, GateOverrides] = field(
        default_factory=dict, metadata={"keys": tuple(SCHEMES)}
    )

    def __post_init__(self) -> None:
        for scheme in SCHEMES:
            try:
                self.resolved(scheme)
            except LpaError as error:
                raise ValueError(str(error)) from error

    def resolved(self, scheme: str) -> Gates:
        """The gates that hold for ``scheme``, defaults included."""
        overrides = self.schemes.get(scheme, GateOverrides())
        ceiling = {"reference_wer_ceiling": self.reference_wer_ceiling}
        common = resolve_gates(scheme, ceiling, reason=self.reason)
        own = resolve_gates(scheme, overrides.given(), reason=overrides.reason)
        return msgspec.structs.replace(own, reference_wer_ceiling=common.reference_wer_ceiling)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe of a model that recognises speech; `separation_recipe` has the other task.

    ``targets`` are read by the targets themselves (`lpa_export.targets.settings`). ``refine``:
    further cycles of the teacher, each from the best weights of the one before,
    learning rate up again and settings of its own. ``max_harden_wer_points``: hard above soft WER,
    in percentage points.
    """

    name: str = field(metadata={"pattern": "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"})
    model: ModelSettings
    lpa: LPASettings
    data: DataSettings | None = None
    teacher: TeacherSettings = TeacherSettings()
    refine: tuple[TeacherSettings, ...] = ()
    training: TrainingSettings = TrainingSettings()
    sweep: SweepSettings = SweepSettings()
    replace: ReplaceSettings = ReplaceSettings()
    targets: yaml.MappingNode | None = None
    gates: GatesSettings = GatesSettings()
    max_harden_wer_points: float = _bounded(HARDEN_WER_POINTS, min=0.0, max=100.0)
    task: Literal["recognition"] = "recognition"

    def __post_init__(self) -> None:
        architecture = self.model.architecture
        if architecture and max(self.lpa.layers, default=0) >= architecture.layers:
            raise ValueError(
                f"'lpa' layers must lie in 0..{architecture.layers - 1}, "
                f"found {max(self.lpa.layers)}"
            )
        if self.max_harden_wer_points > HARDEN_WER_POINTS and not self.gates.reason:
            raise ValueError(
                f"max_harden_wer_points {self.max_harden_wer_points:g} is looser than its "
                f"default {HARDEN_WER_POINTS:g}; give a 'reason' in 'gates', or drop it"
            )

    @property
    def last_cycle(self) -> TeacherSettings:
        """How the teacher is trained last, and what replaces its layers is augmented."""
        return (self.teacher, *self.refine)[-1]


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe. Raises LpaError naming the file and line of the first mistake."""
    return load_strict(path, Recipe)
