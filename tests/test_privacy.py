"""Nothing phones home: with this package, ONNX Runtime leaves no trace in a fresh home."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from onnx import TensorProto, helper, save

from lpa_export.formats.manifest import Manifest
from lpa_export.formats.text import Vocabulary
from lpa_export.targets.onnx.separator_target import usage as separator
from lpa_export.targets.onnx.usage import usage as recogniser
from tests.manifests import stated

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


_TOLD = """
from huggingface_hub import constants
print(float(constants.HF_HUB_DISABLE_TELEMETRY))
"""


def _written(home: Path, *command: str, said: str = "1.0") -> list[Path]:
    """The files that Python leaves in a fresh home when it runs this and prints what it should."""
    home.mkdir()
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", *command],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == said, done.stderr
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The runtime here does write, left to itself: else there is nothing to be prevented."""
    if not _written(tmp_path_factory.mktemp("control") / "home", _SESSION):
        pytest.skip("not run: this build of ONNX Runtime leaves nothing in a home by itself")


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize("package", ["lpa_export", "lpa_validate"])
def test_a_session_writes_nothing(tmp_path: Path, package: str) -> None:
    assert _written(tmp_path / "home", f"import {package}\n{_SESSION}") == []


@pytest.mark.usefixtures("telling")
def test_neither_does_one_in_a_process_that_was_started(tmp_path: Path) -> None:
    assert _written(tmp_path / "home", _CHILD, _SESSION) == []


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize(
    ("usage", "file", "outputs"),
    [
        (recogniser, "speech.wav", ("logits", "frame_lengths")),
        (separator, "noisy.wav", ("sources",)),
    ],
)
def test_the_snippet_of_a_model_card_writes_nothing(
    tmp_path: Path, usage: Callable[[Manifest], str], file: str, outputs: Sequence[str]
) -> None:
    """It runs by itself, without this package."""
    value = helper.make_tensor_value_info
    axis = {"logits": 2, "sources": 1}[outputs[0]]
    given = {
        outputs[0]: value(outputs[0], TensorProto.FLOAT, None),
        "frame_lengths": value("frame_lengths", TensorProto.INT64, [1]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["axis"], value_ints=[axis]),
            helper.make_node("Unsqueeze", ["waveform", "axis"], outputs[:1]),
            helper.make_node("Identity", ["lengths"], ["frame_lengths"]),
        ],
        "g",
        [
            value("waveform", TensorProto.FLOAT, [1, "samples"]),
            value("lengths", TensorProto.INT64, [1]),
        ],
        [given[name] for name in outputs],
    )
    opset = helper.make_opsetid("", 20)
    save(
        helper.make_model(graph, opset_imports=[opset], ir_version=10),
        tmp_path / stated().artifacts[0],
    )
    Vocabulary(("<pad>",), word_delimiter=None).write(tmp_path / stated().vocabulary.file)
    soundfile.write(tmp_path / file, np.zeros(160), 16_000)
    snippet = usage(stated()).split("```python\n")[1].split("```")[0]
    assert _written(tmp_path / "home", snippet, said="") == []


def test_the_hubs_client_adds_nothing_to_what_it_asks(tmp_path: Path) -> None:
    """By its own constant; left to itself it would."""
    _written(tmp_path / "alone", _TOLD, said="0.0")
    _written(tmp_path / "home", f"import lpa_export\n{_TOLD}", said="1.0")
