"""Torch models made into packages by coremltools, as other people do it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package, load_package

Convert = Callable[..., Any]


@pytest.fixture(scope="session")
def convert() -> Convert:
    """``convert(model, inputs, "iOS17", "fp16")``: the model traced and converted.

    Inputs and outputs stay float32, as coremltools does it by default for iOS15 and as asked for
    here: what is compared is the arithmetic inside.
    """
    import coremltools

    def run(
        model: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        target: str,
        precision: str,
        types: Sequence[Any] | None = None,
    ) -> Any:
        with torch.no_grad():
            traced = torch.jit.trace(model.eval(), tuple(inputs), check_trace=False)
        names = [f"in_{number}" for number in range(len(inputs))]
        shapes = types or [value.shape for value in inputs]
        return coremltools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                coremltools.TensorType(name, shape=shape, dtype=np.float32)
                for name, shape in zip(names, shapes, strict=True)
            ],
            outputs=[coremltools.TensorType("result", dtype=np.float32)],
            minimum_deployment_target=coremltools.target[target],
            compute_precision=getattr(
                coremltools.precision, {"fp16": "FLOAT16", "fp32": "FLOAT32"}[precision]
            ),
            skip_model_load=True,
        )

    return run


@pytest.fixture
def packaged(tmp_path: Path) -> Callable[[Any], Package]:
    """``packaged(mlmodel)``: saved and loaded again."""

    def run(mlmodel: Any) -> Package:
        path = tmp_path / "model.mlpackage"
        mlmodel.save(str(path))
        return load_package(path)

    return run


@pytest.fixture
def psnr(
    packaged: Callable[[Any], Package],
) -> Callable[[torch.nn.Module, Sequence[torch.Tensor], Any, Arithmetic], float]:
    """``psnr(model, inputs, package, Arithmetic.FP16)``: how close the program comes to torch.

    In dB, the peak that of torch's values.
    """

    def ratio(
        model: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        package: Package,
        arithmetic: Arithmetic,
    ) -> float:
        with torch.no_grad():
            expected = model.eval()(*inputs).double().numpy()
        given = {f"in_{number}": value.numpy() for number, value in enumerate(inputs)}
        found = Evaluator(package, arithmetic=arithmetic).run(given)["result"]
        assert found.shape == expected.shape
        noise = np.mean((expected - found) ** 2)
        return float(10 * np.log10(np.abs(expected).max() ** 2 / max(noise, 1e-30)))

    return ratio


@pytest.fixture
def require_agreement(
    packaged: Callable[[Any], Package], psnr: Callable[..., float]
) -> Callable[..., None]:
    """``require_agreement(model, inputs, mlmodel, "fp16")``: the program computes what torch does.

    Above 90 dB in float32. A float16 program is off by the rounding of its weights when nothing
    else is rounded, and not much more when every value is.
    """

    def run(
        model: torch.nn.Module, inputs: Sequence[torch.Tensor], mlmodel: Any, precision: str
    ) -> None:
        package = packaged(mlmodel)
        if precision == "fp32":
            assert psnr(model, inputs, package, Arithmetic.FP16) > 90
            return
        assert psnr(model, inputs, package, Arithmetic.FP16) > 60
        assert psnr(model, inputs, package, Arithmetic.FP32) > 65

    return run
