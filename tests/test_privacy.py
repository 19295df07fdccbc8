"""Nothing phones home: with this package, ONNX Runtime leaves no trace in a fresh home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SESSION = """
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
value = helper.make_tensor_value_info
graph = helper.make_graph(
    [helper.make_node("Abs", ["x"], ["y"])], "g",
    [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString())
print(session.run(None, {"x": np.array([-1], np.float32)})[0][0])
"""
_CHILD = """
import subprocess, sys
import lpa_export
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""


def _written(home: Path, *command: str) -> list[Path]:
    """The files that Python leaves in a fresh home when it runs this."""
    home.mkdir()
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", *command], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1.0", done.stderr
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The runtime here does write, left to itself: else there is nothing to be prevented."""
    if not _written(tmp_path_factory.mktemp("control") / "home", _SESSION):
        pytest.skip("not run: this build of ONNX Runtime leaves nothing in a home by itself")


@pytest.mark.usefixtures("telling")
def test_a_session_writes_nothing(tmp_path: Path) -> None:
    assert _written(tmp_path / "home", f"import lpa_export\n{_SESSION}") == []


@pytest.mark.usefixtures("telling")
def test_neither_does_one_in_a_process_that_was_started(tmp_path: Path) -> None:
    assert _written(tmp_path / "home", _CHILD, _SESSION) == []
