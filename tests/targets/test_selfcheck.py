"""The exporter's check of its own work: strict with mistakes, patient with a flipped edge."""

import functools
import hashlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import GoldenClip
from lpa_export.formats.schemes import SCHEMES
from lpa_export.targets import Job, Target, TargetSpec, Written, target_named
from lpa_export.targets.assemble import BundleRequest, write_bundle
from lpa_export.targets.selfcheck import level, lowest_levels, self_check

Make = Callable[..., Any]
Damage = Callable[[Path, Any, Written], Written]


def _values(frames: int = 100) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((frames, 8)).astype(np.float32)


def test_the_level_is_the_psnr_of_all_frames_but_the_worst() -> None:
    expected = _values()
    found = expected + np.float32(1e-3)
    peak = np.abs(expected).max()
    assert level(expected, found) == pytest.approx(20 * math.log10(peak / 1e-3), abs=0.1)


def test_two_frames_of_a_hundred_may_fall_to_the_other_side_of_a_step() -> None:
    expected = _values()
    found = expected.copy()
    found[5:7] += 1.0
    assert level(expected, found) == math.inf


def test_three_may_not() -> None:
    expected = _values()
    found = expected.copy()
    found[5:8] += 1.0
    assert level(expected, found) < 40


@pytest.mark.parametrize("damage", ["missing", "shape", "nan"])
def test_nothing_to_compare_is_no_level(damage: str) -> None:
    expected = _values()
    found = expected.copy()
    found[3, 3] = np.nan
    kinds = {"missing": None, "shape": expected[:-1], "nan": found}
    assert math.isnan(level(expected, kinds[damage]))


@dataclass
class Drifting:
    """A runner whose answer for the first clip is the worst, and NaN for one tap of the second."""

    label: str = "measured"
    max_samples: int | None = None

    def taps(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        off = np.float32(waveform[0])
        undefined = np.float32(math.nan if waveform[1] else 0.0)
        return {"features": _values() + off, "logits": _values() + undefined}


def test_a_tap_is_as_good_as_its_worst_clip() -> None:
    taps = {"features": _values(), "logits": _values()}
    clips = [
        GoldenClip(str(off), "", np.array([off, number == 1], np.float32), taps, "")
        for number, off in enumerate((1e-2, 1e-3, 1e-4))
    ]
    levels = lowest_levels(clips, tuple(taps), Drifting())  # type: ignore[arg-type]
    assert levels.taps["features"] == level(_values(), _values() + np.float32(1e-2))
    assert math.isnan(levels.taps["logits"])
    assert levels.clips == 3


def test_what_is_too_short_for_every_golden_clip_was_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = {"logits": _values()}
    clips = [GoldenClip("one", "", np.zeros(2, np.float32), taps, "")]
    levels = lowest_levels(clips, tuple(taps), Drifting(max_samples=1))  # type: ignore[arg-type]
    assert levels.clips == 0
    monkeypatch.setattr("lpa_export.targets.selfcheck._in_a_process", lambda *given: levels)
    found = self_check(tmp_path, "module:Runner", 60.0)
    assert (found.status, found.reason) == (
        "not_run",
        "every golden clip is longer than the largest bucket",
    )


def _weight(checkpoint: Any) -> np.ndarray:
    layer = checkpoint.model.wav2vec2.encoder.layers[1]
    weight: np.ndarray = layer.feed_forward.output_dense.weight.detach().numpy()
    return weight


def _spoil(path: Path, weight: np.ndarray) -> None:
    """Give a weight another scale inside a file."""
    content, before = path.read_bytes(), weight.tobytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, (weight * np.float32(1.02)).tobytes()))


def _weight_of_onnx(folder: Path, checkpoint: Any, written: Written) -> Written:
    weight = _weight(checkpoint)
    # Those of the first of its pieces, which are as wide as the hidden states.
    _spoil(folder / "model.onnx", np.ascontiguousarray(weight.T[: len(weight)]))
    return written


def _step_of_onnx(folder: Path, _checkpoint: Any, written: Written) -> Written:
    """The residual of a layer a little too large, from the tap on."""
    model = onnx.load(folder / "model.onnx")
    tap = "stage.encoder.layers.0"
    position = next(i for i, node in enumerate(model.graph.node) if tap in node.output)
    node = model.graph.node[position]
    node.output[list(node.output).index(tap)] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.02, np.float32), "damage"))
    model.graph.node.insert(position + 1, helper.make_node("Mul", ["raw", "damage"], [tap]))
    onnx.save(model, folder / "model.onnx")
    return written


def _weight_of_executorch(folder: Path, checkpoint: Any, written: Written) -> Written:
    _spoil(folder / "model.pte", _weight(checkpoint))
    return written


def _weight_of_coreml(folder: Path, checkpoint: Any, written: Written) -> Written:
    weights = folder / "encoder.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    _spoil(weights, _weight(checkpoint))
    return written


def _layers(written: Written) -> tuple[int, int]:
    first, second = (
        i for i, tap in enumerate(written.taps) if tap.name.startswith("encoder.layers.")
    )
    return first, second


def _tensors_swapped(_folder: Path, _checkpoint: Any, written: Written) -> Written:
    """Two taps read each other's value of the artifact."""
    taps, (first, second) = list(written.taps), _layers(written)
    tensors = taps[second].tensor, taps[first].tensor
    for place, tensor in zip((first, second), tensors, strict=True):
        taps[place] = msgspec.structs.replace(taps[place], tensor=tensor)
    return replace(written, taps=tuple(taps))


def _order_swapped(_folder: Path, _checkpoint: Any, written: Written) -> Written:
    """Two taps in each other's place; an ExecuTorch program gives them by place."""
    taps, (first, second) = list(written.taps), _layers(written)
    taps[first], taps[second] = taps[second], taps[first]
    return replace(written, taps=tuple(taps))


def _as_it_is(_folder: Path, _checkpoint: Any, written: Written) -> Written:
    return written


@dataclass(frozen=True, kw_only=True)
class Damaged(TargetSpec):
    """A target that goes wrong between conversion and check.

    kept: what each target has converted before, by its settings; a conversion takes much longer
    than all that is tried with it.
    """

    damage: Damage = _as_it_is
    kept: Path

    def load(self) -> Target:
        return Damaging(super().load(), self.damage, self.kept / self.name)


class Damaging:
    """What such a target writes."""

    _written: ClassVar[dict[Path, Written]] = {}

    def __init__(self, target: Target, damage: Damage, kept: Path) -> None:
        self._target, self._damage, self._kept = target, damage, kept
        self.check = target.check

    def write(self, job: Job, folder: Path) -> Written:
        whole = self._kept / hashlib.sha256(repr(job.settings).encode()).hexdigest()
        if whole not in self._written:
            whole.mkdir(parents=True)
            self._written[whole] = self._target.write(job, whole)
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        return self._damage(folder, job.checkpoint, self._written[whole])


SPLIT = {"buckets": (4.0, 6.0)}
WHOLE = {"buckets": (4.0,), "layout": "whole"}
BROKEN: dict[str, tuple[str, dict[str, Any], Damage]] = {
    "onnx, a weight": ("onnx", {}, _weight_of_onnx),
    "onnx, a step behind a layer": ("onnx", {}, _step_of_onnx),
    "onnx, a tap": ("onnx", {}, _tensors_swapped),
    "coreml, a weight": ("coreml", SPLIT, _weight_of_coreml),
    "coreml, a tap": ("coreml", SPLIT, _tensors_swapped),
    "coreml whole, a tap": ("coreml", WHOLE, _tensors_swapped),
    "executorch, a weight": ("executorch", {}, _weight_of_executorch),
    "executorch, a tap": ("executorch", {}, _order_swapped),
}


def _slow_if_whole(kind: str) -> Any:
    """One file of Core ML names its taps as two do, and to run it takes as long again."""
    return pytest.param(kind, marks=pytest.mark.slow) if kind.startswith("coreml whole") else kind


@pytest.fixture(scope="module")
def write(make_checkpoint: Make) -> Callable[[TargetSpec, dict[str, Any], Path], None]:
    """`write(target, settings, folder)`: the bundle of a model of two layers, in fp32."""
    return functools.partial(_written, make_checkpoint("post", (0,), num_hidden_layers=2))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Damaged]:
    """`target(name, ...)`: that target, which converts a model once for the same settings."""
    kept = tmp_path_factory.mktemp("kept")

    def make(name: str, **changes: Any) -> Damaged:
        return Damaged(**vars(target_named(name)) | {"kept": kept} | changes)

    return make


def _written(
    checkpoint: Checkpoint, target: TargetSpec, settings: dict[str, Any], folder: Path
) -> None:
    spec = SCHEMES["fp32"]
    chosen = target.settings_class()(**settings)
    request = BundleRequest(target, spec.scheme, chosen, checkpoint, False, spec.gates)
    write_bundle(request, folder, overwrite=False, announce=lambda step: None)


@pytest.mark.parametrize("kind", [_slow_if_whole(kind) for kind in BROKEN])
def test_a_conversion_that_went_wrong_leaves_no_bundle(
    write: Make, target: Make, tmp_path: Path, kind: str
) -> None:
    name, settings, damage = BROKEN[kind]
    broken = target(name, damage=damage)
    with pytest.raises(LpaError, match="the exported artifact is not the model: ") as caught:
        write(broken, settings, tmp_path / "bundle")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [("onnx", {}), ("coreml", SPLIT), ("coreml", WHOLE), ("executorch", {})],
)
def test_a_right_one_says_how_near_every_tap_came(
    write: Make, target: Make, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    write(target(name), settings, tmp_path / "bundle")
    found = open_bundle(tmp_path / "bundle").manifest.selfcheck
    assert found.status == "passed"
    assert found.label == ("emulated" if name == "coreml" else "measured")
    assert set(found.taps) == {
        *("features", "projection", "encoder.embed", "encoder.layers.0", "encoder.layers.1"),
        "logits",
    }
    assert min(found.taps.values()) > 90


def test_what_nothing_here_can_run_is_said_not_to_have_been_run(
    write: Make, tmp_path: Path
) -> None:
    settings = {"backend": "vulkan", "buckets": (4.0,)}
    write(target_named("executorch"), settings, tmp_path / "bundle")
    found = open_bundle(tmp_path / "bundle").manifest.selfcheck
    assert (found.status, found.taps) == ("not_run", {})
    assert "vulkan" in found.reason


def test_an_artifact_that_takes_its_process_down_leaves_no_bundle(
    write: Make, target: Make, tmp_path: Path
) -> None:
    crashing = target("onnx", runner="tests.targets.test_selfcheck:Crashing")
    with pytest.raises(LpaError, match=r"took its process down \(signal 6\)"):
        write(crashing, {}, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


class Crashing:
    """A runtime that dies."""

    def __init__(self, _bundle: Any) -> None:
        os.abort()


@pytest.mark.parametrize(
    "settings",
    [{"buckets": (4.0,)}, pytest.param(WHOLE, marks=pytest.mark.slow)],
    ids=["split", "whole"],
)
def test_behind_a_length_adapter_there_are_fewer_frames_than_in_a_bucket(
    make_checkpoint: Make, tmp_path: Path, settings: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint("post", (0,), num_hidden_layers=2, add_adapter=True)
    _written(checkpoint, target_named("coreml"), settings, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert min(bundle.manifest.selfcheck.taps.values()) > 80
    frames = bundle.manifest.frames
    assert frames.count(64_000, inside=True) > 4 * frames.count(64_000)
