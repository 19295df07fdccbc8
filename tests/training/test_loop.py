"""The loop a user trusts: killed, accumulated, launched twice, out of memory, on a full disk."""

import importlib.util
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lpa_export.errors import LpaError
from lpa_export.training import files, loop, step
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.evaluate import evaluation_batches, require_usable
from lpa_export.training.files import write_tensors
from lpa_export.training.records import read_log, read_steps

PROGRAM = Path(__file__).with_name("toy_run.py")


@pytest.fixture(scope="module")
def toys() -> ModuleType:
    specification = importlib.util.spec_from_file_location("toy_run", PROGRAM)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def manifest(tone_manifest: Callable[..., Path]) -> Path:
    return tone_manifest("train", 40, seed=0)


@pytest.fixture
def data(toys: ModuleType, manifest: Path) -> SpeechSet:
    return toys.speech(manifest)


def _program(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _records(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Lines and rows without their times."""
    records = read_log(folder), read_steps(folder)
    for record in (*records[0], *records[1]):
        record.pop("seconds", None)
    return records


def test_a_run_killed_inside_an_epoch_leaves_the_same_records_and_weights(
    toys: ModuleType, manifest: Path, data: SpeechSet, tmp_path: Path
) -> None:
    per_epoch = len(data.plan(0, seed=5, batch_seconds=4.0))
    killed = _program(manifest, tmp_path / "killed", 3, per_epoch + per_epoch // 2)
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    assert len(read_log(tmp_path / "killed")) == 1
    assert len(read_steps(tmp_path / "killed")) == per_epoch + per_epoch // 2 - 1

    straight, resumed = toys.toy(), toys.toy(seed=1)
    toys.train(straight, data, tmp_path / "straight")
    toys.train(resumed, data, tmp_path / "killed")
    assert _records(tmp_path / "killed") == _records(tmp_path / "straight")
    for name in ("best", "average", "state"):
        ours, theirs = (
            load_file(tmp_path / run / f"{name}.safetensors") for run in ("killed", "straight")
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_records_written_behind_the_last_state_are_made_anew(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    toys.train(toys.toy(), data, tmp_path / "two", epochs=2, average_epochs=0)
    before = _records(tmp_path / "two")
    with (tmp_path / "two" / "log.jsonl").open("a") as log:
        log.write('{"epoch": 3, "step": 99}\n{"epo')
    with (tmp_path / "two" / "steps.csv").open("a") as steps:
        steps.write("99,3,0,0,0,0,0\n100,3")
    toys.train(toys.toy(), data, tmp_path / "two", epochs=2, average_epochs=0)
    assert _records(tmp_path / "two") == before


def test_small_batches_give_the_gradients_of_one_large_batch(
    toys: ModuleType, data: SpeechSet
) -> None:
    members = [(index, 0) for index in range(10)]
    parts = (members[:2], members[2:3], members[3:])
    found = []
    for batches in (parts, (members,)):
        model = toys.toy().double().eval()
        terms = step.gradients(
            model, toys.loss_of(model), data, step.Group(0, 0, batches),
            share=0.25, seed=0, noise_share=0.0,
        )  # fmt: skip
        found.append((terms, [parameter.grad for parameter in model.parameters()]))
    (accumulated, ours), (whole, theirs) = found
    assert accumulated == pytest.approx(whole, rel=1e-12)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_two_launched_processes_train_as_one_that_accumulates_two_batches(
    toys: ModuleType, manifest: Path, data: SpeechSet, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = [
        _program(
            manifest, tmp_path / "two", 2, 0, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
            LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_CPU="1",
        )
        for rank in range(2)
    ]  # fmt: skip
    best = []
    for process in launched:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        best.append(float(output.splitlines()[-1]))
    lowest = min(line["wer"] for line in read_log(tmp_path / "two") if "epoch" in line)
    assert best == [pytest.approx(lowest, abs=1e-5)] * 2
    toys.train(toys.toy(), data, tmp_path / "one", epochs=2, accumulate=2)
    (two_log, two_steps), (one_log, one_steps) = (_records(tmp_path / n) for n in ("two", "one"))
    assert len(two_steps) == len(one_steps) > 5
    for two, one in ((two_log, one_log), (two_steps, one_steps)):
        assert [r.keys() for r in two] == [r.keys() for r in one]
        for ours, theirs in zip(two, one, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=2e-5)


def test_mixed_precision_trains_and_keeps_weights_in_float32(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    model, seen = toys.toy(), set()
    model.first.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    toys.train(model, data, tmp_path / "bf16", precision="bf16", epochs=2)
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    losses = [row["loss"] for row in read_steps(tmp_path / "bf16")]
    assert losses[-1] < losses[0]


def _spoilt(loss: Callable[..., Any], number: int, spoil: Callable[..., Any]) -> Callable[..., Any]:
    """`loss`, but `spoil` of its terms from call `number` on."""
    calls = [0]

    def spoilt(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        calls[0] += 1
        terms = loss(batch, share)
        return terms if calls[0] < number else spoil(terms)

    return spoilt


def _no_number(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: term * float("nan") for name, term in terms.items()}


def _bad_gradient(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    zero = terms["loss"] * 0
    return {"loss": terms["loss"] + torch.where(zero == 0, 0.0, zero / zero)}


def _no_memory(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def _no_gpu_memory(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


FAILURES = {
    "nan": (_no_number, r"loss became nan in epoch 1, batch 3 \(utterances \d.*learning_rate"),
    "gradient": (_bad_gradient, r"gradients became nan in epoch 1, batch 3: .*learning_rate"),
    "memory": (_no_memory, r"out of memory on \d+ clips of .* s \(utterances .*batch_seconds"),
    "gpu": (_no_gpu_memory, r"out of memory on \d+ clips of .*batch_seconds"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_step_that_fails_is_told_in_one_line_and_can_go_on(
    name: str,
    toys: ModuleType,
    data: SpeechSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil, message = FAILURES[name]
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0.0)
    model = toys.toy()
    with pytest.raises(LpaError, match=message) as caught:
        toys.train(model, data, tmp_path, loss=_spoilt(toys.loss_of(model), 3, spoil), epochs=1)
    assert "\n" not in str(caught.value)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert toys.train(model, data, tmp_path, epochs=1).epoch == 1


def test_other_errors_of_a_loss_are_not_taken_for_lack_of_memory(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    def wrong(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        toys.train(toys.toy(), data, tmp_path, loss=wrong)


def test_an_epoch_without_speech_is_refused(
    toys: ModuleType, data: SpeechSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plan in ([], [[(0, 0)], []]):
        monkeypatch.setattr(SpeechSet, "plan", lambda *args, _plan=plan, **options: _plan)
        with pytest.raises(LpaError, match="epoch 1 has an empty batch"):
            toys.train(toys.toy(), data, tmp_path)


def test_speech_that_nothing_can_be_learnt_from_is_refused(
    tone_manifest: Callable[..., Path], toys: ModuleType, tiny_config: Callable[..., Any]
) -> None:
    from transformers import Wav2Vec2ForCTC

    manifest = tone_manifest("long", 2, seed=0)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    model = Wav2Vec2ForCTC(tiny_config("pre"))

    def write(*texts: str) -> SpeechSet:
        pairs = zip(rows, texts, strict=True)
        lines = [json.dumps({**row, "text": text}) for row, text in pairs]
        manifest.write_text("\n".join(lines))
        return toys.speech(manifest)

    with pytest.raises(LpaError, match=r"no utterance can be learnt from: 0, as all others"):
        require_usable(model, write("AB" * 200, "A" * 120))
    require_usable(model, write("AB" * 200, "A"))


def test_evaluation_takes_long_clips_in_smaller_batches() -> None:
    second = 16_000
    short = [5 * second + index for index in range(40)]
    assert [len(batch) for batch in evaluation_batches(short)] == [16, 16, 8]
    mixed = [30 * second, 200 * second, *short[:3], 40 * second, 35 * second]
    batches = list(evaluation_batches(mixed))
    assert batches == [[2, 3, 4, 0], [6, 5], [1]]
    assert list(evaluation_batches([])) == []


class _KilledError(BaseException):
    """What SIGKILL looks like from inside a test."""


def test_a_kill_while_the_state_is_written_costs_nothing_but_that_write(
    toys: ModuleType, data: SpeechSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.train(toys.toy(), data, tmp_path / "straight")
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0.0)
    real, calls = files.save_file, [0]

    def half_written(tensors: Any, path: Path, metadata: Any) -> None:
        calls[0] += 1
        real(tensors, path, metadata=metadata)
        if calls[0] == 6:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise _KilledError

    monkeypatch.setattr(files, "save_file", half_written)
    with pytest.raises(_KilledError):
        toys.train(toys.toy(), data, tmp_path / "killed")
    monkeypatch.setattr(files, "save_file", real)
    toys.train(toys.toy(seed=1), data, tmp_path / "killed")
    assert _records(tmp_path / "killed") == _records(tmp_path / "straight")
    states = [load_file(tmp_path / run / "state.safetensors") for run in ("killed", "straight")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.fixture
def small_files_only() -> Iterator[Callable[[int], None]]:
    """`small_files_only(size)`: from then on a file that grows beyond `size` bytes fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_finds_the_disk_full_keeps_the_old_file(
    tmp_path: Path, small_files_only: Callable[[int], None]
) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"x": torch.zeros(10)})
    small_files_only(20_000)
    with pytest.raises(LpaError, match=r"weights\.safetensors: cannot be written \(.*make room"):
        write_tensors(path, {"x": torch.ones(50_000)})
    assert torch.equal(load_file(path)["x"], torch.zeros(10))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_run_stopped_by_a_full_disk_continues_to_the_same_weights(
    toys: ModuleType,
    data: SpeechSet,
    tmp_path: Path,
    small_files_only: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    straight, stopped, resumed = toys.toy(), toys.toy(), toys.toy(seed=3)
    toys.train(straight, data, tmp_path / "straight")
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0.0)

    def fill(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        small_files_only(4_000)
        return terms

    with pytest.raises(LpaError, match=r"cannot be written .*the same command again") as caught:
        toys.train(stopped, data, tmp_path / "full", loss=_spoilt(toys.loss_of(stopped), 7, fill))
    assert "\n" not in str(caught.value)
    small_files_only(soft)
    toys.train(resumed, data, tmp_path / "full")
    assert _records(tmp_path / "full") == _records(tmp_path / "straight")
    for ours, theirs in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("content", [b"", b"not tensors", None], ids=["empty", "text", "other"])
def test_a_state_that_is_not_this_runs_is_refused(
    content: bytes | None, toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    if content is None:
        write_tensors(
            tmp_path / "state.safetensors",
            {"model:other": torch.zeros(2)},
            {"progress": json.dumps({"epoch": 1})},
        )
    else:
        (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(LpaError, match="another model's or a damaged file; remove it"):
        toys.train(toys.toy(), data, tmp_path)


def test_updates_stand_in_csv_tensorboard_and_picture(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    toys.train(toys.toy(), data, tmp_path, tensorboard=True, epochs=2, average_epochs=0)
    rows, lines = read_steps(tmp_path), read_log(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == lines[-1]["step"]
    first = [row["loss"] for row in rows if row["epoch"] == 1]
    assert lines[0]["loss"] == pytest.approx(sum(first) / len(first), abs=1e-5)

    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]
    wer = [event.value for event in events.Scalars("epoch/wer")]
    assert wer == pytest.approx([line["wer"] for line in lines], abs=1e-4)

    image = pytest.importorskip("matplotlib.image").imread(tmp_path / "learning_curve.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 300
    assert image[..., :3].std() > 0.01


def test_tensorboard_files_without_the_package_are_refused_in_one_line(
    toys: ModuleType, data: SpeechSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LpaError, match="pip install tensorboard"):
        toys.train(toys.toy(), data, tmp_path, tensorboard=True)


def test_without_matplotlib_a_run_has_no_picture(
    toys: ModuleType, data: SpeechSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    toys.train(toys.toy(), data, tmp_path, epochs=1)
    assert not (tmp_path / "learning_curve.png").exists()
    assert len(read_log(tmp_path)) == 2  # the epoch, and the averaged weights
