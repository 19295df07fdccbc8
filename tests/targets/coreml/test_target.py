"""What the target writes: programs, packages, names, sizes, bytes."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coremltools
import msgspec
import numpy as np
import pytest
from coremltools.converters.mil.mil import types

from lpa_export.errors import LpaError
from lpa_export.formats.schemes import scheme_named
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.coreml import Arithmetic, Evaluator, load_package
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets import target_named
from lpa_export.targets.coreml.convolutions import MAX_TAPS
from lpa_export.targets.coreml.settings import CoremlSettings
from lpa_export.targets.coreml.target import SCOPES, CoremlTarget
from tests.manifests import stated

Make = Callable[..., Any]
FP16 = scheme_named("fp16")
REPOSITORY = Path(__file__).resolve().parents[3]
FUNCTIONS = ("frames_64", "frames_128")

# What breaks a segment of the Neural Engine, or makes numbers from constants there.
UNWANTED = set(
    "cumsum gather gather_nd gather_along_axis scatter non_zero select where range_1d shape fill "
    "cos sin mod floor less less_equal greater greater_equal equal not_equal logical_and "
    "logical_or reduce_mean reduce_sum topk one_hot band_part cast".split()
)


def _operations(package: Path, function: str) -> list[Any]:
    operations = load_package(package).functions[function].operations
    return [op for op in operations if op.op_type != "const" and "constexpr" not in op.op_type]


def _weights(package: Path) -> int:
    return (package / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


def _run_split(
    made: Any, waveform: np.ndarray, arithmetic: Arithmetic, taps: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Outputs and taps of the smallest bucket, valid frames only, (frames, width)."""
    place = made.written.runtime.encoders[0]
    front_end = Evaluator(
        load_package(made.folder / "frontend.mlpackage"), function="main", arithmetic=arithmetic
    )
    encoder = Evaluator(
        load_package(made.folder / place.package),
        function=place.function,
        arithmetic=arithmetic,
    )
    projected = front_end.run({"waveform": waveform[None]})["projected"]
    frames, room = projected.shape[-1], made.written.buckets[0].frames
    padded = np.zeros((*projected.shape[:3], room), projected.dtype)
    padded[..., :frames] = projected
    mask = np.zeros((1, 1, 1, room), projected.dtype)
    mask[..., :frames] = 1
    found = encoder.run({"projected": padded, "mask": mask}, taps=taps)
    return {name: values[0, :, 0, :frames].T for name, values in found.items()}


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_programs_compute_the_model(exported: Make, speech: Make, norm: str) -> None:
    made, waveform = exported(norm), speech(15_000)
    expected = TorchReference(made.checkpoint).taps(waveform)
    encoder_stages = [tap for tap in made.written.taps if tap.where == "encoder"]
    taps = tuple(stage.tensor for stage in encoder_stages)
    found = _run_split(made, waveform, Arithmetic.FP32, taps)
    for stage in encoder_stages:
        # Weights are float16, and may move an edge.
        assert psnr(expected[stage.name], found[stage.tensor]) > 35, stage.name
    assert (found["logits"].argmax(1) == expected["logits"].argmax(1)).mean() > 0.95


def test_float32_programs_are_equal_to_the_model(exported: Make, speech: Make) -> None:
    made = exported(scheme="fp32", buckets=(1.2,), deployment_target="iOS17")
    waveform = speech(15_000)
    logits = _run_split(made, waveform, Arithmetic.FP32)["logits"]
    assert psnr(TorchReference(made.checkpoint).logits(waveform), logits) > 70


def test_whole_programs_are_equal_to_the_model(exported: Make, speech: Make) -> None:
    made = exported("post", "fp32", buckets=(1.2,), layout="whole")
    (place,) = made.written.runtime.encoders
    evaluator = Evaluator(
        load_package(made.folder / place.package),
        function=place.function,
        arithmetic=Arithmetic.FP32,
    )
    waveform = np.zeros((1, made.written.buckets[0].samples), np.float32)
    waveform[0, :9_001] = speech(9_001)
    samples = np.array([9_001], np.float32)
    logits = evaluator.run({"waveform": waveform, "samples": samples})["logits"]
    expected = TorchReference(made.checkpoint).logits(waveform[0, :9_001])
    assert psnr(expected, logits[0, :, 0, : len(expected)].T) > 70


def test_an_encoder_holds_nothing_that_leaves_the_neural_engine(exported: Make) -> None:
    made = exported()
    for function in FUNCTIONS:
        operations = _operations(made.folder / "encoder.mlpackage", function)
        assert UNWANTED.isdisjoint(op.op_type for op in operations)
        for op in operations:
            for value in op.outputs:
                assert len(value.shape) <= 4, op.name
                assert types.builtin_to_string(value.dtype) == "fp16", op.name
            if op.op_type == "conv":
                assert op.weight.shape[-1] <= MAX_TAPS, op.name
        norms = [op for op in operations if op.op_type == "layer_norm"]
        assert norms and all(op.axes.val.tolist() == [1] for op in norms)


def test_as_many_operations_at_any_number_of_frames(exported: Make) -> None:
    package = exported().folder / "encoder.mlpackage"
    short, long = (
        Counter(op.op_type for op in _operations(package, function)) for function in FUNCTIONS
    )
    assert short == long


def test_statistics_of_the_front_end_are_float32(exported: Make) -> None:
    operations = _operations(exported("post").folder / "frontend.mlpackage", "main")
    statistics = [op for op in operations if op.op_type in ("reduce_mean", "rsqrt")]
    assert len(statistics) == 6
    assert {types.builtin_to_string(op.outputs[0].dtype) for op in statistics} == {"fp32"}
    convolutions = [op for op in operations if op.op_type == "conv"]
    assert {types.builtin_to_string(op.outputs[0].dtype) for op in convolutions} == {"fp16"}


def test_inputs_and_outputs_are_those_of_the_manifest(exported: Make) -> None:
    made = exported()
    front_end = made.specification("frontend.mlpackage").description
    assert [value.name for value in (*front_end.input, *front_end.output)] == [
        "waveform",
        "projected",
    ]
    assert made.written.buckets[-1].samples == (
        front_end.input[0].type.multiArrayType.shapeRange.sizeRanges[1].upperBound
    )
    encoder = made.specification("encoder.mlpackage").description
    assert [function.name for function in encoder.functions] == list(FUNCTIONS)
    assert encoder.defaultFunctionName == FUNCTIONS[0]
    for function in encoder.functions:
        assert [value.name for value in function.input] == ["projected", "mask"]
        assert [value.name for value in function.output] == ["logits"]


def test_stages_are_values_of_the_programs_under_their_names(exported: Make) -> None:
    made = exported()
    values = {
        "frontend": _values(made.folder / "frontend.mlpackage", "main"),
        "encoder": _values(made.folder / "encoder.mlpackage", FUNCTIONS[1]),
    }
    assert len(made.written.taps) == 7
    for stage in made.written.taps:
        assert stage.tensor in values[stage.where], stage.name


def _values(package: Path, function: str) -> set[str]:
    return {value.name for op in _operations(package, function) for value in op.outputs}


def test_scopes_name_the_torch_module_of_each_value(exported: Make) -> None:
    made = exported()
    scopes = json.loads((made.folder / SCOPES).read_text("utf-8"))
    assert list(scopes) == [
        *(f"encoder.mlpackage/{function}" for function in sorted(FUNCTIONS)),
        "frontend.mlpackage/main",
    ]
    encoder = scopes[f"encoder.mlpackage/{FUNCTIONS[0]}"]
    assert _values(made.folder / "encoder.mlpackage", FUNCTIONS[0]) <= set(encoder)
    assert encoder["logits"] == "head"
    assert {"layers.0.lpa.value", "layers.1.attention.query", "layers.2.norm"} <= {
        *encoder.values()
    }


def test_metadata_is_what_an_app_needs_and_says_nothing_of_the_machine(exported: Make) -> None:
    made = exported()
    for package in made.written.artifacts:
        metadata = load_package(made.folder / package).metadata
        assert json.loads(metadata["vocabulary"]) == list(made.checkpoint.vocabulary.tokens)
        assert (metadata["sample_rate"], metadata["hop"]) == ("16000", "320")
        assert (metadata["receptive_field"], metadata["blank_id"]) == ("720", "0")
        assert metadata["word_delimiter"] == "|"
        assert not any("apple" in key for key in metadata)


@pytest.mark.slow
@pytest.mark.parametrize("buckets", ["1.2", "1.2,2.4"])
def test_two_exports_give_the_same_bytes_and_say_nothing(
    tiny_checkpoint: Make, tmp_path: Path, buckets: str
) -> None:
    """As a user makes them, in processes with another hash seed and working directory."""
    checkpoint = tiny_checkpoint()
    script = "import sys; from lpa_export.commands.export import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--target", "coreml", "--buckets", buckets, "--checkpoint", str(checkpoint)]
    for seed in ("1", "4321"):
        (tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments, "--out", "bundle"],
            cwd=tmp_path / seed,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("wrote bundle\n")
    assert _bytes(tmp_path / "1" / "bundle") == _bytes(tmp_path / "4321" / "bundle")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("scheme", ["fp16", pytest.param("palette4", marks=pytest.mark.slow)])
def test_functions_share_their_weights(exported: Make, scheme: str) -> None:
    both = _weights(exported(scheme=scheme).folder / "encoder.mlpackage")
    one = _weights(exported(scheme=scheme, buckets=(1.2,)).folder / "encoder.mlpackage")
    # What the second has of its own are its stored masks.
    assert both < 1.5 * one


@pytest.mark.parametrize(
    ("scheme", "target", "kind"),
    [
        ("int8", "iOS18", "constexpr_blockwise_shift_scale"),
        ("palette4", "iOS18", "constexpr_lut_to_dense"),
        ("palette4", "iOS17", "constexpr_lut_to_dense"),
    ],
)
def test_only_weights_of_convolutions_are_compressed(
    exported: Make, scheme: str, target: str, kind: str
) -> None:
    made = exported(scheme=scheme, deployment_target=target, buckets=(1.2,))
    (place,) = made.written.runtime.encoders
    package = load_package(made.folder / place.package)
    operations = package.functions[place.function].operations
    compressed = [op for op in operations if op.op_type == kind]
    assert compressed
    for op in compressed:
        (user,) = op.outputs[0].child_ops
        assert user.op_type == "conv" and user.weight is op.outputs[0]
    scopes = json.loads((made.folder / SCOPES).read_text("utf-8"))
    path = scopes[f"{place.package}/{place.function}"]
    users = {path[op.outputs[0].child_ops[0].outputs[0].name] for op in compressed}
    assert not any(name.endswith(("head", "controls", "edges")) for name in users)


def test_ios17_has_a_package_per_bucket(exported: Make) -> None:
    made = exported(scheme="palette4", deployment_target="iOS17", buckets=(1.2,))
    assert made.written.artifacts == ("frontend.mlpackage", "encoder_64.mlpackage")
    assert made.written.runtime.encoders[0].function == "main"
    assert not made.specification("encoder_64.mlpackage").description.functions


def test_opening_a_package_changes_no_byte_of_it(exported: Make) -> None:
    folder = exported().folder / "encoder.mlpackage"
    before = _bytes(folder)
    coremltools.models.MLModel(str(folder), skip_model_load=True)
    assert _bytes(folder) == before


def test_nothing_else_is_left_in_the_folder(exported: Make) -> None:
    made = exported()
    names = {path.name for path in made.folder.iterdir()}
    assert names == {"frontend.mlpackage", "encoder.mlpackage", SCOPES}


def test_a_float16_bucket_beyond_exact_integers_is_refused(
    make_checkpoint: Make, write_coreml: Make, tmp_path: Path
) -> None:
    with pytest.raises(LpaError, match="2048"):
        write_coreml(make_checkpoint(), tmp_path, "fp16", buckets=(60.0,))
    assert not list(tmp_path.iterdir())


def test_empty_buckets_are_refused_by_the_quick_check(make_checkpoint: Make) -> None:
    target, checkpoint = CoremlTarget(), make_checkpoint()
    target.check(checkpoint, CoremlSettings(), FP16)
    with pytest.raises(LpaError, match="holds no frame"):
        target.check(checkpoint, CoremlSettings(buckets=(0.01,)), FP16)
    with pytest.raises(LpaError, match="counts frames exactly to 2048 only"):
        target.check(checkpoint, CoremlSettings(buckets=(60.0,)), FP16)


def test_usage_names_packages_and_functions_of_the_bundle(exported: Make) -> None:
    written = exported().written
    runtime = msgspec.to_builtins(written.runtime)
    text = target_named("coreml").usage_of(stated(runtime=runtime, buckets=written.buckets))
    assert 'functionName = "frames_64"' in text and "frontend" in text
    assert all(len(line) <= 100 for line in _code(text))


def _code(markdown: str) -> Iterator[str]:
    for block in markdown.split("```")[1::2]:
        yield from block.splitlines()
