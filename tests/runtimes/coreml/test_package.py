"""Opening packages: whole, damaged on purpose, and of kinds that are no ML Program."""

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.coreml import Evaluator, Package, PackageError, UnsupportedOp, load_package
from lpa_export.runtimes.coreml.files import Blob, check_blobs

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
SPECS = {"x": ((1, 64), "fp32")}
MATRIX = np.random.default_rng(0).normal(size=(48, 64)).astype(np.float16)


def product(mb: Any, x: Any) -> Any:
    half = mb.cast(x=x, dtype="fp16", name="half")
    return mb.linear(x=half, weight=MATRIX, bias=np.zeros(48, np.float16), name="y")


@pytest.fixture(scope="module")
def whole(save: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whole") / "model.mlpackage", product, SPECS)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    path = tmp_path / "model.mlpackage"
    shutil.copytree(whole, path)
    return path


def refused(path: Path) -> str:
    """What is said of a package that does not open; always one line."""
    with pytest.raises(PackageError) as caught:
        Evaluator(load_package(path))
    assert isinstance(caught.value, ArtifactError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the protobuf of a package."""
    from coremltools import proto

    model = proto.Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    change(model)
    (path / MODEL).write_bytes(model.SerializeToString())


def operations(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def test_a_package_says_what_it_is(whole: Path) -> None:
    package = load_package(whole)
    assert list(package.functions) == ["main"]
    assert package.default_function == "main"
    assert package.metadata["colour"] == "blue"
    assert package.specification_version == 8
    assert package.size == sum(f.stat().st_size for f in whole.rglob("*") if f.is_file())
    feature = package.features("main")["x"]
    assert (feature.dtype, feature.bounds, feature.fixed) == ("fp32", ((1, 1), (64, 64)), True)


def test_values_come_through(whole: Path) -> None:
    x = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    found = Evaluator(load_package(whole)).run({"x": x})["y"]
    expected = x.astype(np.float16).astype(float) @ MATRIX.T.astype(float)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)


def test_what_is_no_package(tmp_path: Path, whole: Path) -> None:
    assert "found nothing" in refused(tmp_path / "none.mlpackage")
    assert "found a file" in refused(whole / "Manifest.json")
    (tmp_path / "empty.mlpackage").mkdir()
    assert "no usable Manifest.json" in refused(tmp_path / "empty.mlpackage")


TEXT_FOR_ENTRIES = '{"itemInfoEntries": "", "rootModelIdentifier": 0}'


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"itemInfoEntries": 3}', TEXT_FOR_ENTRIES, "[" * 100_000],
)
def test_a_damaged_manifest(copy: Path, text: str) -> None:
    (copy / "Manifest.json").write_text(text)
    assert "Manifest.json" in refused(copy)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a\ud800", "a/" * 3000 + "b"])
def test_names_that_no_file_can_have(copy: Path, name: str) -> None:
    written = (copy / "Manifest.json").read_text()
    manifest = json.loads(written)
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = name
    (copy / "Manifest.json").write_text(json.dumps(manifest))
    assert "Manifest.json" in refused(copy)
    blob = Blob("weight", name, 0, 4)
    with pytest.raises(PackageError, match=r"no file 'a.*' for weight"):
        check_blobs(copy, [blob])


def test_nothing_outside_is_read(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mlmodel"
    shutil.copy(copy / MODEL, outside)
    manifest = json.loads((copy / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = f"../../{outside.name}"
    original = (copy / "Manifest.json").read_text()
    (copy / "Manifest.json").write_text(json.dumps(manifest))
    assert "leads outside" in refused(copy)
    (copy / "Manifest.json").write_text(original)
    (copy / MODEL).unlink()
    (copy / MODEL).symlink_to(outside)
    assert "symbolic link" in refused(copy)


def test_weights_named_by_a_path_stay_inside(copy: Path) -> None:
    def change(model: Any) -> None:
        for operation in operations(model):
            value = operation.attributes["val"]
            if value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../.."

    edit(copy, change)
    assert "the weights are missing" in refused(copy)


def test_missing_truncated_and_corrupt_weights(copy: Path) -> None:
    data = (copy / WEIGHTS).read_bytes()
    for length in (0, 3, 70, 200, len(data) - 64):
        (copy / WEIGHTS).write_bytes(data[:length])
        assert "weight.bin" in refused(copy)
    assert "truncated" in refused(copy)
    (copy / WEIGHTS).write_bytes(data[:64] + bytes(64) + data[128:])
    assert "damaged" in refused(copy)
    # A size that overflows, as an attacker would choose it.
    record = struct.pack("<IIQQ", 0xDEADBEEF, 1, MATRIX.nbytes, 2**64 - 8)
    (copy / WEIGHTS).write_bytes(data[:64] + record + data[64 + len(record) :])
    assert "truncated" in refused(copy)
    (copy / WEIGHTS).unlink()
    assert "missing" in refused(copy)
    shutil.rmtree((copy / WEIGHTS).parent)
    assert "missing" in refused(copy)


def test_a_corrupt_model(copy: Path) -> None:
    data = (copy / MODEL).read_bytes()
    for bad in (b"", b"\xff" * 40, data[: len(data) // 2], bytes(1000)):
        (copy / MODEL).write_bytes(bad)
        assert "model.mlpackage" in refused(copy)
    (copy / MODEL).unlink()
    assert "no such file" in refused(copy)


def test_flipped_bytes_never_crash(copy: Path) -> None:
    data = (copy / MODEL).read_bytes()
    random = np.random.default_rng(0)
    x = np.zeros((1, 64), np.float32)
    for _ in range(60):
        flipped = bytearray(data)
        for place in random.integers(0, len(data), 3):
            flipped[place] = random.integers(256)
        (copy / MODEL).write_bytes(bytes(flipped))
        # Some still open and run, the others say why not: nothing else may come out.
        try:
            Evaluator(load_package(copy)).run({"x": x})
        except PackageError as error:
            assert "\n" not in str(error)


def test_not_an_ml_program(copy: Path) -> None:
    edit(copy, lambda model: model.neuralNetwork.SetInParent())
    assert "expected an ML Program, found neuralNetwork" in refused(copy)


def test_a_newer_specification(copy: Path) -> None:
    edit(copy, lambda model: setattr(model, "specificationVersion", 99))
    assert "specification 99 is newer" in refused(copy)


def test_an_unknown_operation_is_named(copy: Path) -> None:
    def change(model: Any) -> None:
        operations(model)[-1].type = "quantum_linear"

    edit(copy, change)
    with pytest.raises(UnsupportedOp, match=r"function main.* quantum_linear .*output y"):
        Evaluator(load_package(copy))


def test_an_operation_without_a_handler_is_named(package: Callable[..., Package]) -> None:
    loaded = package(
        lambda mb, x: mb.non_maximum_suppression(
            boxes=np.ones((1, 4, 4), np.float32),
            scores=mb.reshape(x=x, shape=[1, 4, 16]),
            max_boxes=2,
            iou_threshold=np.float32(0.5),
            name="best",
        )[0],
        SPECS,
    )
    with pytest.raises(UnsupportedOp, match=r"function main.*non_maximum_suppression.*best"):
        Evaluator(loaded)


def test_parameters_may_be_narrower_than_a_default_beside_them(
    package: Callable[..., Package],
) -> None:
    """A normalisation in float32 with parameters in float16 and an epsilon left out (iOS17)."""
    half: Any = np.float16
    loaded = package(
        lambda mb, x: mb.batch_norm(
            x=x, mean=half([0.5, 1]), variance=half([1, 4]), gamma=half([2, 1]), beta=half([0, 3])
        ),
        {"x": ((1, 2, 3), "fp32")},
    )
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (found,) = Evaluator(loaded).run({"x": x}).values()
    scale = np.array([2, 1]) / np.sqrt(np.array([1, 4]) + 1e-5)
    expected = (x - np.array([0.5, 1])[:, None]) * scale[:, None] + np.array([0, 3])[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["fill", "reshape"])
def test_a_rank_known_only_at_run_time_is_named_and_not_called_damaged(
    package: Callable[..., Package], kind: str
) -> None:
    from coremltools.converters.mil.mil import get_new_symbol

    def body(mb: Any, x: Any, sizes: Any) -> Any:
        return mb.fill(shape=sizes) if kind == "fill" else mb.reshape(x=x, shape=sizes)

    specs = {"x": ((6,), "fp32"), "sizes": ((get_new_symbol(),), "int32")}
    with pytest.raises(UnsupportedOp, match=f"{kind} .*rank is only known at run time") as caught:
        Evaluator(package(body, specs))
    assert "damaged" not in str(caught.value)


def test_an_absurd_size_is_not_believed(copy: Path) -> None:
    def change(model: Any) -> None:
        output = operations(model)[-1].outputs[0]
        output.type.tensorType.dimensions[0].constant.size = 2**60

    edit(copy, change)
    assert "not believed" in refused(copy)


def test_an_unknown_function(whole: Path) -> None:
    with pytest.raises(PackageError, match="has no function frames_9; it has main"):
        Evaluator(load_package(whole), "frames_9")


@pytest.fixture(scope="module")
def several(save: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package with a function for 1 and one for 3 rows, which share the matrix."""
    from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

    folder = tmp_path_factory.mktemp("several")
    descriptor = MultiFunctionDescriptor()
    for rows in (1, 3):
        part = save(folder / f"{rows}.mlpackage", product, {"x": ((rows, 64), "fp32")})
        descriptor.add_function(str(part), "main", f"rows_{rows}")
    descriptor.default_function_name = "rows_3"
    save_multifunction(descriptor, str(folder / "several.mlpackage"))
    return folder / "several.mlpackage"


def test_functions_by_name(several: Path) -> None:
    package = load_package(several)
    assert set(package.functions) == {"rows_1", "rows_3"}
    assert package.default_function == "rows_3"
    for rows in (1, 3):
        x = np.ones((rows, 64), np.float32)
        found = Evaluator(package, f"rows_{rows}").run({"x": x})["y"]
        assert found.shape == (rows, 48)
        np.testing.assert_allclose(found[0], MATRIX.astype(float).sum(1), rtol=2e-3, atol=2e-3)
    with pytest.raises(PackageError, match=r"expected shape \(3, 64\), found \(1, 64\)"):
        Evaluator(package).run({"x": np.ones((1, 64), np.float32)})


def test_functions_share_their_weights(several: Path) -> None:
    package = load_package(several)
    tensors = []
    for rows in (1, 3):
        evaluator = Evaluator(package, f"rows_{rows}")
        last = [*evaluator.trace({"x": np.ones((rows, 64), np.float32)})][-1]
        tensors.append((evaluator, last.inputs["weight"]))
    assert tensors[0][1] is tensors[1][1]
    arrays = [
        operation.outputs[0].val
        for function in package.functions.values()
        for operation in function.operations
        if operation.op_type == "const" and operation.outputs[0].shape == MATRIX.shape
    ]
    assert len(arrays) == 2
    assert arrays[0] is arrays[1]
    np.testing.assert_array_equal(arrays[0], MATRIX)


def test_nothing_is_said_while_a_package_is_opened(whole: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from lpa_export.runtimes.coreml import load_package\n"
        "assert 'coremltools' not in sys.modules\n"
        "load_package(Path(sys.argv[1])).function()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
