"""Parity that fails names the operation to blame: a damaged weight, an overflow in float16."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate import validate

import lpa_export

pytestmark = pytest.mark.slow

Change = Callable[[Callable[..., None]], None]
_RECORD = struct.Struct("<IIQQ")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model for Core ML, one bucket."""
    folder = tmp_path_factory.mktemp("sound") / "coreml"
    lpa_export.export(target="coreml", out=folder, buckets=[5.0])
    return folder


def changed(exported: Path, folder: Path, change: Change) -> Path:
    """A copy of the bundle whose encoder has other weights, and a manifest that knows of them."""
    from coremltools.models.utils import load_spec

    shutil.copytree(exported, folder)
    package = folder / "encoder.mlpackage"
    model = load_spec(str(next(package.rglob("*.mlmodel"))))
    (function,) = model.mlProgram.functions.values()
    places = {
        operation.outputs[0].name: operation.attributes["val"].blobFileValue.offset
        for operation in function.block_specializations[function.opset].operations
        if operation.type == "const"
        and operation.attributes["val"].WhichOneof("value") == "blobFileValue"
    }
    weights = next(package.rglob("weight.bin"))
    data = bytearray(weights.read_bytes())

    def scale(name: str, factor: float, part: slice) -> None:
        _, _, count, start = _RECORD.unpack_from(data, places[name])
        values = np.frombuffer(bytes(data[start : start + count]), np.float16).astype(np.float32)
        values[part] *= factor
        data[start : start + count] = values.astype(np.float16).tobytes()

    change(scale)
    weights.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][str(weights.relative_to(folder))]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def judged(bundle: Path, cases: Path) -> Any:
    report = validate(target="coreml", bundle=bundle, checks=["parity"], limit=2, case_folder=cases)
    (parity,) = report.checks
    assert parity.status == "fail"
    return parity


def test_a_damaged_weight_is_named_with_its_module_and_written_out(
    exported: Path, tmp_path: Path
) -> None:
    bundle = changed(
        exported,
        tmp_path / "bundle",
        lambda scale: scale("layers_2_lpa_output_weight_to_fp16", -4.0, slice(2000)),
    )
    parity = judged(bundle, tmp_path / "cases")
    named = parity.details["operation"]
    assert (named["op"], named["module"]) == ("conv", "layers.2.lpa.output")
    assert named["against"] == "the checkpoint converted anew"
    assert f"conv {named['output']} in layers.2.lpa.output" in parity.reason
    with np.load(tmp_path / "cases" / f"{named['output']}.npz", allow_pickle=False) as case:
        x, weight, bias = (case[f"input.{name}"] for name in ("x", "weight", "bias"))
        replayed = np.einsum("oc,bcht->boht", weight[:, :, 0, 0], x) + bias[:, None, None]
        np.testing.assert_allclose(replayed, case["found"], rtol=1e-4, atol=1e-4)
        assert not np.allclose(case["found"], case["expected"], rtol=0.1)


def test_an_overflow_in_float16_is_named_where_it_happens(exported: Path, tmp_path: Path) -> None:
    def overflow(scale: Callable[..., None]) -> None:
        """One channel so large that only float32 holds it, made small again behind."""
        scale("layers_1_lpa_value_weight_to_fp16", 2.0**15, slice(160))
        scale("layers_1_lpa_value_bias_to_fp16", 2.0**15, slice(1))
        scale("layers_1_lpa_output_weight_to_fp16", 2.0**-15, slice(0, None, 160))

    bundle = changed(exported, tmp_path / "bundle", overflow)
    parity = judged(bundle, tmp_path / "cases")
    named = parity.details["operation"]
    assert (named["op"], named["module"]) == ("conv", "layers.1.lpa.value")
    assert named["against"] == "the same program in fp32"
    with np.load(tmp_path / "cases" / f"{named['output']}.npz", allow_pickle=False) as case:
        assert np.isinf(case["found"]).any() and np.isfinite(case["expected"]).all()
