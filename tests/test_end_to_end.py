"""The whole road with the model that ships: export, validate, damage, validate again."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lpa_validate.command import main as validate_main
from msgspec.structs import replace
from onnx import GraphProto, ModelProto, helper, numpy_helper

from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.formats.checkpoint import SHIPPED, load_checkpoint
from lpa_export.formats.manifest import Manifest
from lpa_export.runtimes.onnx import every_graph

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def bundle(shipped_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(shipped_onnx, tmp_path_factory.mktemp("shipped") / "onnx"))


def _validate(bundle: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report.json."""
    code = validate_main(["--target", "onnx", "--bundle", str(bundle), *flags])
    return code, json.loads((bundle / "report.json").read_text())


def _check(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in report["checks"] if check["name"] == name)


def _figure(report: dict[str, Any], check: str, name: str) -> Any:
    figures = _check(report, check)["figures"]
    return next(figure["value"] for figure in figures if figure["name"] == name)


def test_the_shipped_model_is_what_it_says() -> None:
    checkpoint = load_checkpoint()
    assert checkpoint.lpa is not None
    assert checkpoint.replaced == (0, 1, 2, 3)
    assert checkpoint.model.config.num_hidden_layers == 6
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 8_000_000
    figures = checkpoint.lpa.figures
    assert figures["teacher_wer"] <= 25.5
    assert figures["hard_wer"] <= figures["teacher_wer"] + 1.0
    assert abs(figures["hard_wer"] - figures["soft_wer"]) <= 0.3
    assert set(checkpoint.lpa.hardness) == {"0", "1", "2", "3"}


def test_the_shipped_model_passes_every_gate_on_the_demo_set(bundle: Path) -> None:
    code, report = _validate(bundle)
    assert {check["name"]: check["status"] for check in report["checks"]} == dict.fromkeys(
        [
            *("integrity", "ops", "parity", "wer", "wer-difference", "silence", "padding"),
            "determinism",
        ],
        "pass",
    )
    assert code == 0


def test_an4_dev_is_read_as_the_checkpoint_says(bundle: Path, an4_dev: Path) -> None:
    code, report = _validate(bundle, "--data", str(an4_dev))
    lpa = load_checkpoint().lpa
    assert code == 0
    assert lpa is not None
    assert _figure(report, "wer-difference", "WER difference") == 0
    assert _figure(report, "wer", "WER, reference") == pytest.approx(
        lpa.figures["hard_wer"], abs=0.01
    )


def test_open_vocabulary_recordings_of_any_rate_run(bundle: Path, samples: Path) -> None:
    code, report = _validate(
        bundle, "--data", str(samples / "manifest.jsonl"), "--checks", "parity,padding"
    )
    assert code == 0
    assert _figure(report, "parity", "argmax agreement") >= 0.999


def test_a_librispeech_folder_runs(bundle: Path, librispeech_sample: Path) -> None:
    code, report = _validate(bundle, "--data", str(librispeech_sample), "--checks", "parity")
    assert code == 0
    assert report["data"]["utterances"] == 5


def test_the_bundle_alone_is_enough(bundle: Path, tmp_path: Path) -> None:
    """As on a machine that has no checkpoint: the golden tensors are the reference."""
    alone = tmp_path / "alone"
    shutil.copytree(bundle, alone)
    _edit_manifest(alone, _not_shipped)
    code, report = _validate(alone)
    assert code == 0
    assert _check(report, "parity")["details"]["reference"] == "golden"
    assert _check(report, "wer-difference")["status"] == "not_run"


def _not_shipped(manifest: Manifest) -> Manifest:
    return replace(manifest, checkpoint=replace(manifest.checkpoint, shipped=False))


def _edit_manifest(bundle: Path, edit: Callable[[Manifest], Manifest]) -> None:
    """Change the manifest and make its hashes right again: integrity must not be the witness."""
    (bundle / "report.json").unlink(missing_ok=True)
    write_manifest(bundle, edit(open_bundle(bundle).manifest))


def _edit_graph(bundle: Path, edit: Callable[[ModelProto], object]) -> None:
    model = onnx.load(bundle / "model.onnx")
    edit(model)
    onnx.save(model, bundle / "model.onnx")


def _between(graph: GraphProto, output: str, nodes: list[onnx.NodeProto]) -> None:
    """Route the value `output` through `nodes`, which read `output/raw` and give `output`."""
    position = next(i for i, node in enumerate(graph.node) if output in node.output)
    maker = graph.node[position]
    maker.output[list(maker.output).index(output)] = f"{output}/raw"
    for offset, node in enumerate(nodes, start=1):
        graph.node.insert(position + offset, node)


def _nodes(graph: GraphProto, inside: set[str]) -> Iterator[tuple[GraphProto, onnx.NodeProto]]:
    """The nodes that make values `inside`, and those of their loops, each with its own graph."""
    for node in graph.node:
        if not inside.isdisjoint(node.output):
            yield graph, node
            for attribute in node.attribute:
                for part in attribute.g.node:
                    yield attribute.g, part


def _wrong_weight(bundle: Path) -> None:
    """The feed-forward weights of layer 2, one per cent too large."""

    def edit(model: ModelProto) -> None:
        inside = _before(model, "stage.encoder.layers.2")
        weights = {
            tensor.name: tensor
            for graph in every_graph(model.graph)
            for tensor in graph.initializer
        }
        node = [
            node
            for _, node in _nodes(model.graph, inside)
            if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
        ][-1]
        tensor = weights[node.input[1]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))

    _edit_graph(bundle, edit)


def _off_by_one(bundle: Path) -> None:
    """Every window of one family of layer 1 ends a frame late."""

    def edit(model: ModelProto) -> None:
        inside = _before(model, "stage.encoder.layers.1")
        inside -= _before(model, "stage.encoder.layers.0")
        graph, name = next(
            (graph, node.output[0])
            for graph, node in _nodes(model.graph, inside)
            if node.op_type == "Ceil"
        )
        one = numpy_helper.from_array(np.array(1, dtype=np.float32), "damage.one")
        graph.initializer.append(one)
        late = helper.make_node("CastLike", ["damage.one", f"{name}/raw"], ["damage.late"])
        _between(
            graph, name, [late, helper.make_node("Add", [f"{name}/raw", "damage.late"], [name])]
        )

    _edit_graph(bundle, edit)


def _fp16_overflow(bundle: Path) -> None:
    """Layer 0 hands its output on through fp16 at a scale that fp16 does not hold."""

    def edit(model: ModelProto) -> None:
        name = "stage.encoder.layers.0"
        for label, value in (("up", 3e5), ("down", 1 / 3e5)):
            array = np.array(value, dtype=np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, f"damage.{label}"))
        nodes = [
            helper.make_node("Mul", [f"{name}/raw", "damage.up"], [f"{name}/up"]),
            helper.make_node("Cast", [f"{name}/up"], [f"{name}/half"], to=onnx.TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{name}/half"], [f"{name}/back"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}/back", "damage.down"], [name]),
        ]
        _between(model.graph, name, nodes)

    _edit_graph(bundle, edit)


def _before(model: ModelProto, value: str) -> set[str]:
    """The values that `value` depends on, itself included."""
    makers = {name: node for node in model.graph.node for name in node.output}
    wanted, seen = [value], set[str]()
    while wanted:
        name = wanted.pop()
        if name in makers and name not in seen:
            seen.add(name)
            wanted.extend(makers[name].input)
    return seen


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    yield folder


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_wrong_weight, "first diverging tap: encoder.layers.2 (lpa)"),
        (_off_by_one, "first diverging tap: encoder.layers.1 (lpa)"),
        (_fp16_overflow, "first diverging tap: encoder.layers.0 (lpa)"),
    ],
)
def test_a_damaged_graph_fails_parity_and_the_layer_is_named(
    copy: Path, damage: Damage, reason: str
) -> None:
    damage(copy)
    _edit_manifest(copy, lambda manifest: manifest)
    code, report = _validate(copy, "--checks", "integrity,parity", "--limit", "8")
    assert code == 1
    assert _check(report, "integrity")["status"] == "pass"
    assert reason in _check(report, "parity")["reason"]


def test_a_swapped_vocabulary_fails_integrity_and_the_transcripts(copy: Path) -> None:
    content = json.loads((copy / "tokens.json").read_text())
    tokens = content["tokens"]
    a, b = (tokens.index({"token": letter, "text": letter}) for letter in "EO")
    tokens[a], tokens[b] = tokens[b], tokens[a]
    (copy / "tokens.json").write_text(json.dumps(content))
    _edit_manifest(copy, lambda manifest: manifest)
    code, report = _validate(copy, "--limit", "8")
    assert code == 1
    assert _check(report, "integrity")["status"] == "fail"
    assert _figure(report, "parity", "changed transcripts") > 0


def test_a_truncated_model_fails_integrity_without_a_traceback(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(whole[: len(whole) // 2])
    code, report = _validate(copy, "--limit", "2")
    assert code == 1
    assert _check(report, "integrity")["status"] == "fail"
    assert _check(report, "parity")["status"] == "not_run"
    assert "Traceback" not in capsys.readouterr().err
