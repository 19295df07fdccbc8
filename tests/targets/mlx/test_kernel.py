"""The kernel of window means: as C on a CPU, and what becomes of one that is wrong."""

import ctypes
import shutil
import subprocess
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lpa_export.commands.bench import bench
from lpa_export.commands.export import export
from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.golden import read_golden
from lpa_export.targets.mlx import kernel as kernels
from lpa_export.targets.mlx import model as models
from lpa_export.targets.mlx.lpa import Means, Window, gathered
from lpa_export.targets.mlx.model import load

Kernel = Callable[..., list[mx.array]]
_SPARE = 7
"""Threads beyond the last value, as a GPU starts whole groups of them."""


@pytest.fixture(scope="session")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """What `mx.fast.metal_kernel` would give, its body compiled for the CPU, thread by thread."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here to run the kernel's body with")
    folder = tmp_path_factory.mktemp("kernel")
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(
        "static void one(const float *table, const int *starts, const int *ends,\n"
        "    const float *weights, const int *sizes, float *mixed, unsigned int thread) {"
        f"{kernels.body('thread')}}}\n"
        "void all(const float *table, const int *starts, const int *ends, const float *weights,\n"
        "    const int *sizes, float *mixed, unsigned int threads) {\n"
        "    for (unsigned int i = 0; i < threads; ++i)\n"
        "        one(table, starts, ends, weights, sizes, mixed, i);\n}\n"
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wno-sign-compare", "-Werror", "-O1"]
    made = [compiler, *flags, "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(made, check=True)
    function: Any = ctypes.CDLL(str(library)).all

    def run(
        *, inputs: Sequence[mx.array], grid: Any, output_shapes: Any, **others: Any
    ) -> list[mx.array]:
        types = (np.float32, np.int32, np.int32, np.float32, np.int32)
        for array, kind in zip(inputs, types, strict=True):
            assert np.array(array).dtype == kind
        given = [np.ascontiguousarray(array) for array in map(np.array, inputs)]
        mixed = np.full(grid[0] + _SPARE, np.nan, np.float32)
        function(*(array.ctypes.data_as(ctypes.c_void_p) for array in (*given, mixed)),
                 ctypes.c_uint(grid[0] + _SPARE))  # fmt: skip
        assert np.isnan(mixed[grid[0] :]).all()
        return [mx.array(mixed[: grid[0]].reshape(output_shapes[0]))]

    return run


def test_the_body_averages_what_a_slow_loop_averages(in_c: Kernel) -> None:
    """In float64, over windows whose starts and ends are of all, of one row, of one frame."""
    generator = np.random.default_rng(3)
    batch, frames, rows, heads, width = 2, 5, 7, 3, 4
    table = generator.normal(size=(batch, rows, heads, width)).astype(np.float32)
    windows, expected = [], np.zeros((batch, frames, heads, width))
    for shape in ((batch, frames, heads), (1, frames, heads), (batch, 1, heads)):
        first = generator.integers(0, rows - 1, shape).astype(np.int32)
        last = generator.integers(0, rows, shape).astype(np.int32)
        weight = generator.normal(size=(batch, frames, heads)).astype(np.float32)
        windows.append(Window(mx.array(first), mx.array(last), mx.array(weight)))
        whole = [np.broadcast_to(edge, weight.shape) for edge in (first, last)]
        for b, t, h in np.ndindex(weight.shape):
            start, end = (int(edge[b, t, h]) for edge in whole)
            of_window = table[b, end, h].astype(np.float64) - table[b, start, h]
            expected[b, t, h] += of_window * weight[b, t, h]
    for means in (kernels.window_means(in_c), gathered):
        np.testing.assert_allclose(np.array(means(mx.array(table), windows)), expected, atol=1e-5)


def test_a_kernel_that_agrees_is_used(
    mlx_bundle: Path, in_c: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def counted(**given: Any) -> list[mx.array]:
        used.append(1)
        return in_c(**given)

    monkeypatch.setattr(models, "gpu_kernel", lambda: kernels.window_means(counted))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(mlx_bundle, kernel=True)
    compared = len(used)
    assert compared == 1  # one layer of two is replaced
    waveform = mx.array(read_golden(open_bundle(mlx_bundle))[0].waveform[None])
    np.testing.assert_allclose(
        np.array(model.logits(waveform)), np.array(load(mlx_bundle)(waveform)), atol=1e-4
    )
    assert len(used) == compared + 1


def _a_row_later(table: mx.array, windows: Sequence[Window]) -> mx.array:
    return gathered(table, [window._replace(first=window.first + 1) for window in windows])


def _no_number(table: mx.array, windows: Sequence[Window]) -> mx.array:
    return gathered(table, windows) * mx.array(float("nan"))


def _cut(table: mx.array, windows: Sequence[Window]) -> mx.array:
    return gathered(table, windows)[..., 1:]


def _unbuilt(table: mx.array, windows: Sequence[Window]) -> mx.array:
    raise RuntimeError("[metal::Device] Unable to build metal library from source\nline 3: error")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_a_row_later, "on the golden clips it is off by"),
        (_no_number, "it is off by nan of a layer's largest value, 0.0001 may be"),
        (_cut, "it gives (3, "),
        (_unbuilt, "Unable to build metal library from source line 3: error"),
    ],
)
def test_a_kernel_that_is_wrong_is_not_used_and_said_so(
    mlx_bundle: Path, monkeypatch: pytest.MonkeyPatch, wrong: Means, said: str
) -> None:
    monkeypatch.setattr(models, "gpu_kernel", lambda: wrong)
    with pytest.warns(LpaWarning) as caught:
        model = load(mlx_bundle, kernel=True)
    (message,) = (str(warning.message) for warning in caught)
    assert said in message and "\n" not in message
    assert "the kernel of window means is not used, the plain form is" in message
    assert model.means is gathered


def test_a_kernel_with_nothing_to_compare_it_on_is_not_used(
    mlx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (models.CONFIG, models.WEIGHTS):
        shutil.copy(mlx_bundle / name, tmp_path)
    monkeypatch.setattr(models, "gpu_kernel", lambda: gathered)
    with pytest.warns(LpaWarning, match="is not used, the plain form is: .*manifest.json"):
        assert load(tmp_path, kernel=True).means is gathered


@pytest.mark.skipif(mx.is_available(mx.gpu), reason="there is a GPU here")
def test_a_bundle_that_asks_for_a_kernel_says_on_a_cpu_that_there_is_none(
    mlx_checkpoint: Path, tmp_path: Path
) -> None:
    """The export itself is as ever; `lpa-bench` times no other form in its place."""
    bundle = tmp_path / "mlx"
    with warnings.catch_warnings():
        warnings.simplefilter("error", LpaWarning)
        export(target="mlx", checkpoint=mlx_checkpoint, out=bundle, buckets=(2.0,), means="kernel")
    with pytest.warns(LpaWarning, match="MLX has no GPU here"):
        assert load(bundle).means is gathered
    with pytest.raises(LpaError, match=r"kernel of window means .* MLX has no GPU here"):
        bench(target="mlx", bundle=bundle, seconds=(1.0,), rounds=1)


@pytest.mark.parametrize(("language", "number"), kernels._NUMBER.items())
def test_the_kernel_is_made_for_the_gpu_that_there_is(
    monkeypatch: pytest.MonkeyPatch, language: str, number: str
) -> None:
    made: list[dict[str, Any]] = []
    for name in kernels._NUMBER:
        monkeypatch.setattr(getattr(mx, name), "is_available", lambda name=name: name == language)
    monkeypatch.setattr(mx.fast, f"{language}_kernel", lambda **given: made.append(given))
    kernels.gpu_kernel()
    (given,) = made
    assert given["source"] == kernels.body(number)
    assert given["input_names"] == ["table", "starts", "ends", "weights", "sizes"]
