"""The delegation report: counts known by hand, and statements that the program belies."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from lpa_validate.checks.executorch_ops import check_ops
from lpa_validate.checks.replay import check_replay
from lpa_validate.evaluation import Validation
from lpa_validate.renderers.executorch import lines
from lpa_validate.report import Check
from msgspec.structs import replace

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.manifest import as_json
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.process import Worker

from .conftest import Programs, in_buckets, noise, runtime

Make = Callable[..., Bundle]

FRAMES = 6
LINEAR = {
    "name": "linear",
    "op": "aten.linear.default",
    "delegate": 0,
    "macs": FRAMES * 8 * 5,
    "module": "linear",
    "source": "model.py:12",
}
CUMSUM = {
    "name": "cumsum",
    "op": "aten.cumsum.default",
    "delegate": None,
    "macs": 0,
    "module": "",
    "source": "model.py:13",
}


@pytest.fixture(autouse=True)
def one_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks open a process of their own where none is open; here they share one."""
    monkeypatch.setattr("lpa_export.runtimes.executorch.opened.Worker", lambda: worker)


def statement(*nodes: Any, method: str = "forward", **changes: Any) -> dict[str, Any]:
    stated = {"delegates": ["XnnpackBackend"], "nodes": list(nodes or (LINEAR, CUMSUM))}
    return {"example_seconds": 10, "methods": {method: stated | changes}}


def opened(bundle: Bundle, **gates: Any) -> Validation:
    return Validation(
        bundle=bundle,
        gates=replace(bundle.manifest.gates, **gates),
        tokens=None,
        runner=None,
        runner_problem="not opened here",
        open_runner=lambda threads: pytest.fail("no runner is needed"),
        reference=None,
        reference_problem="",
        utterances=(),
    )


def ops_of(bundle: Bundle) -> Check:
    (check,) = check_ops(opened(bundle))
    return check


def value(check: Check, name: str) -> Any:
    return check.figure(name).value


def test_figures_are_those_known_by_hand(programs: Programs, make_bundle: Make) -> None:
    ops = ops_of(make_bundle(programs.summed, delegation=statement()))
    assert ops.status == "pass", ops.reason
    assert value(ops, "nodes") == 2
    assert value(ops, "nodes delegated") == 50.0
    assert value(ops, "MACs delegated") == 100.0
    assert value(ops, "linear and convolution MACs delegated") == 100.0
    assert value(ops, "subgraphs") == 1
    assert value(ops, "kernel calls outside") == 1
    assert value(ops, "kernels the runtime does not have") == 0
    # What remains outside are the bytes of the method that gives the metadata.
    inside = 4 * (5 * 8 + 5)
    constants = ops.details["memory"]["constant_bytes"]
    assert value(ops, "weights inside delegates") == pytest.approx(
        100 * inside / (inside + constants)
    )
    # Input, what the delegate puts out, and the sum, whether their memory is shared or not.
    assert 4 * FRAMES * (8 + 5) <= value(ops, "planned memory") <= 4 * FRAMES * (8 + 5 + 5) + 64
    assert ops.details["delegates"] == [
        {
            "backend": "XnnpackBackend",
            "bytes": ops.details["delegates"][0]["bytes"],
            "nodes": {"fully_connected": 1},
        }
    ]


def test_labels_say_what_was_read_and_what_is_only_stated(
    programs: Programs, make_bundle: Make
) -> None:
    ops = ops_of(make_bundle(programs.summed, delegation=statement()))
    stated = {figure.name for figure in ops.figures if figure.label == "stated"}
    assert stated == {
        "nodes",
        "nodes delegated",
        "MACs delegated",
        "linear and convolution MACs delegated",
    }
    assert {figure.label for figure in ops.figures} == {"stated", "measured"}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            statement(delegates=["XnnpackBackend"] * 2),
            "calls of delegates: 2 x XnnpackBackend stated, 1 x XnnpackBackend found",
        ),
        (
            statement(delegates=["CoreMLBackend"]),
            "calls of delegates: 1 x CoreMLBackend stated, 1 x XnnpackBackend found",
        ),
        (statement(LINEAR), "calls of aten.cumsum: 0 stated, 1 found"),
        (
            statement(LINEAR, CUMSUM, {**CUMSUM, "op": "aten.add.Tensor"}),
            "calls of aten.add: 1 stated, 0 found",
        ),
        (
            statement(LINEAR, {**LINEAR, "name": "other"}, CUMSUM),
            "linear and convolution nodes in delegates: 2 stated, 1 found",
        ),
        (
            statement(LINEAR, {**CUMSUM, "delegate": 1}),
            "nodes in 2 delegates stated, 1 found",
        ),
    ],
)
def test_a_statement_that_the_program_belies_fails(
    programs: Programs, make_bundle: Make, stated: dict[str, Any], said: str
) -> None:
    ops = ops_of(make_bundle(programs.summed, delegation=stated))
    assert ops.status == "fail"
    assert said in ops.reason


@pytest.mark.parametrize(
    ("scheme", "backend", "status"),
    [
        ("fp32", "xnnpack", "fail"),
        ("int8", "xnnpack", "fail"),
        ("fp32", "portable", "pass"),
    ],
)
def test_a_linear_layer_outside_fails_where_xnnpack_has_to_take_all(
    programs: Programs, make_bundle: Make, scheme: str, backend: str, status: str
) -> None:
    left_out = {**LINEAR, "delegate": None, "name": "second", "macs": LINEAR["macs"]}
    bundle = make_bundle(
        programs.summed,
        runtime(backend=backend),
        delegation=statement(LINEAR, left_out, CUMSUM),
        scheme=scheme,
    )
    ops = ops_of(bundle)
    failed = {figure.name for figure in ops.figures if figure.failed}
    assert ("linear and convolution MACs delegated" in failed) == (status == "fail")
    assert value(ops, "linear and convolution MACs delegated") == 50.0


def test_ops_outside_are_told_with_count_work_and_source(
    programs: Programs, make_bundle: Make
) -> None:
    ops = ops_of(make_bundle(programs.summed, delegation=statement()))
    assert ops.details["outside"] == [
        {"op": "aten.cumsum.default", "nodes": 1, "macs": 0, "sources": ["model.py:13"]}
    ]
    text = "\n".join(lines(ops.details))
    assert "1 x aten.cumsum.default" in text and "model.py:13" in text
    assert "XnnpackBackend" in text and "1 nodes" in text
    assert "not available in this executorch wheel" in text
    json.loads(as_json(ops.entry), parse_constant=pytest.fail)


def test_the_details_of_another_check_are_no_lines() -> None:
    assert lines({"problems": []}) == []


def test_a_kernel_that_the_runtime_does_not_have_is_named(
    programs: Programs, make_bundle: Make
) -> None:
    other = programs.summed.replace(b"aten::cumsum\0", b"aten::cumsam\0")
    ops = ops_of(
        make_bundle(other, delegation=statement(LINEAR, {**CUMSUM, "op": "aten.cumsam.x"}))
    )
    assert ops.status == "fail"
    assert "no kernel for aten::cumsam.out in the runtime (1 calls)" in ops.reason


@pytest.mark.parametrize(
    "stated", [None, [], {}, {"method": "forward", "samples": 1, "delegates": [], "nodes": [1]}]
)
def test_a_missing_statement_is_an_artifact_error(
    programs: Programs, make_bundle: Make, stated: Any
) -> None:
    with pytest.raises(ArtifactError, match=r"delegation\.json does not state"):
        ops_of(make_bundle(programs.summed, delegation=stated))


def golden(name: str, logits: Any) -> dict[str, bytes]:
    """The files of one golden clip, as an export writes them."""
    stream, audio = io.BytesIO(), io.BytesIO()
    np.save(stream, logits)
    soundfile.write(audio, noise(4_000), 16_000, format="FLAC")
    index = [
        {
            "id": name,
            "audio": f"golden/{name}.flac",
            "transcript": "A",
            "text": "A",
            "taps": {"logits": f"golden/{name}.npy"},
        }
    ]
    return {
        "golden/index.json": json.dumps(index).encode(),
        f"golden/{name}.flac": audio.getvalue(),
        f"golden/{name}.npy": stream.getvalue(),
    }


def replayed(programs: Programs, make_bundle: Make, bundled: bytes, **gates: Any) -> Check:
    files = golden("clip", programs.logits(noise(4_000))) | {"model.bpte": bundled}
    bundle = make_bundle(
        programs.dynamic, runtime(bundled="model.bpte"), delegation=statement(), files=files
    )
    (check,) = check_replay(opened(bundle, **gates))
    return check


def test_a_bundled_program_replays_its_golden_clips(programs: Programs, make_bundle: Make) -> None:
    replay = replayed(programs, make_bundle, programs.bundled)
    assert replay.status == "pass", replay.reason
    assert value(replay, "test cases") == 2
    assert value(replay, "program is the one shipped") == 1


def test_another_expected_output_fails_the_replay(programs: Programs, make_bundle: Make) -> None:
    replay = replayed(programs, make_bundle, programs.deaf)
    assert replay.status == "fail"
    assert value(replay, "test cases that differ") == 1
    assert "forward, case 1" in replay.reason


def test_a_precision_without_psnr_gate_is_remarked_and_does_not_fail(
    programs: Programs, make_bundle: Make
) -> None:
    replay = replayed(programs, make_bundle, programs.deaf, psnr_db=None, psnr_flag_db=50.0)
    assert replay.status == "pass"
    assert replay.figure("test cases that differ").ok is False


def test_a_bundled_program_of_other_weights_is_found_out(
    programs: Programs, make_bundle: Make
) -> None:
    other = bytearray(programs.bundled)
    other[programs.bundled.index(programs.dynamic) + len(programs.dynamic) - 1] ^= 1
    replay = replayed(programs, make_bundle, bytes(other))
    assert value(replay, "program is the one shipped") == 0
    assert replay.status == "fail"


@pytest.mark.parametrize("damage", [b"", b"no bundled program"])
def test_a_damaged_bundled_program_is_an_artifact_error(
    programs: Programs, make_bundle: Make, damage: bytes
) -> None:
    with pytest.raises(ArtifactError):
        replayed(programs, make_bundle, damage)


def test_without_a_bundled_program_the_replay_is_not_run(
    programs: Programs, make_bundle: Make
) -> None:
    (replay,) = check_replay(opened(make_bundle(programs.summed)))
    assert replay.status == "not_run"
    assert replay.reason


def test_buckets_are_described_by_the_one_for_five_seconds_or_the_longest(
    programs: Programs, make_bundle: Make
) -> None:
    stated = statement(method="bucket_8240")
    bundle = make_bundle(programs.bucketed, in_buckets(4_240, 8_240), delegation=stated)
    assert ops_of(bundle).details["method"] == "bucket_8240"


def test_a_method_that_nothing_is_stated_of_is_named(programs: Programs, make_bundle: Make) -> None:
    stated = statement(method="stages")
    with pytest.raises(ArtifactError, match="nothing of method 'forward'"):
        ops_of(make_bundle(programs.dynamic, delegation=stated))
