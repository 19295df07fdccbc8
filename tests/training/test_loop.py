"""The loop a user trusts: killed, accumulated, launched twice, out of memory, on a full disk."""

import importlib.util
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpa_export.errors import LpaError
from lpa_export.training import step
from lpa_export.training.ahead import Place, batches
from lpa_export.training.batches import Batch, FirstBatches, SpeechSet
from lpa_export.training.distributed import accelerator
from lpa_export.training.evaluate import evaluation_batches, require_usable
from lpa_export.training.files import write_tensors
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.records import read_log, read_steps

PROGRAM = Path(__file__).with_name("toy_run.py")
CLOCK = ("seconds", "audio_hours_per_hour", "waiting_share")


@pytest.fixture(scope="module")
def toys() -> ModuleType:
    specification = importlib.util.spec_from_file_location("toy_run", PROGRAM)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def manifest(tone_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_folder(tmp_path_factory.mktemp("speech") / "train", 24, seed=0)


@pytest.fixture(scope="module")
def data(toys: ModuleType, manifest: Path) -> SpeechSet:
    return toys.speech(manifest)


@pytest.fixture(scope="module")
def straight(toys: ModuleType, data: SpeechSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    toys.train(toys.toy(), data, folder)
    return folder


def _forked(task: Callable[[], object], log: Path, **environment: str) -> int:
    """Run `task` in a process that begins as a copy of this one; its id.

    A launched process has an environment of its own, and must not inherit this one's place.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        accelerator.cache_clear()
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
        task()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    """Exit code of a child, or the signal that ended it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_after(updates: int) -> Callable[[Progress], None]:
    """A hook by which a process ends itself, as a power cut would."""

    def hook(progress: Progress) -> None:
        if progress.step == updates:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


class _StoppedError(BaseException):
    """What a kill looks like from inside a test."""


def _stop_after(updates: int) -> Callable[[Progress], None]:
    def hook(progress: Progress) -> None:
        if progress.step == updates:
            raise _StoppedError

    return hook


def _same_files(one: Path, other: Path, *names: str) -> bool:
    for name in names:
        ours, theirs = (load_file(run / f"{name}.safetensors") for run in (one, other))
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[k], theirs[k]) for k in ours):
            return False
    return True


def _records(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Lines and rows without their times."""
    records = read_log(folder), read_steps(folder)
    for record in (*records[0], *records[1]):
        for name in CLOCK:
            record.pop(name, None)
    return records


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_inside_an_epoch_leaves_the_same_records_and_weights(
    toys: ModuleType, data: SpeechSet, straight: Path, tmp_path: Path, workers: int
) -> None:
    """The batches too are the same, one by one, whoever made them."""
    model, folder = toys.toy(), tmp_path / "killed"
    per_epoch = len(toys.source(data).plan(0))
    seen = tmp_path / "batches"

    def noted(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        parts = (batch.waveforms, batch.lengths, batch.labels)
        with seen.open("a") as file:
            file.write(sha256(b"".join(p.numpy().tobytes() for p in parts)).hexdigest() + "\n")
        return toys.loss_of(model)(batch, share)

    def run(hook: Callable[[Progress], None] | None) -> None:
        conduct = Conduct(workers=workers, save_seconds=0.0, after_update=hook)
        toys.train(model, data, folder, loss=noted, conduct=conduct)

    killed_at = per_epoch + per_epoch // 2
    child = _forked(lambda: run(_kill_after(killed_at)), tmp_path / "log")
    assert _ended(child) == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert len(read_log(folder)) == 1
    assert len(read_steps(folder)) == killed_at
    run(None)
    assert _records(folder) == _records(straight)
    assert _same_files(folder, straight, "best", "average", "state")
    source = toys.source(data)
    expected = [
        source.batch(epoch, number, members)
        for epoch in range(3)
        for number, members in enumerate(source.plan(epoch))
    ]
    assert seen.read_text().split() == [
        sha256(
            b"".join(p.numpy().tobytes() for p in (one.waveforms, one.lengths, one.labels))
        ).hexdigest()
        for one in expected
    ]


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
    for group in (parts, (members,)):
        model = toys.toy().double().eval()
        made = (data.training_batch(one, seed=(0,), noise_share=0.0) for one in group)
        sums = step.gradients(
            model, toys.loss_of(model), made, step.Group(0, 0, group),
            share=0.25, seed=0, names=data.names,
        )  # fmt: skip
        seconds = sum(data.clips.lengths[index][0] for index, _ in members) / 16_000
        assert sums.audio == pytest.approx(seconds)
        found.append((sums.terms, [parameter.grad for parameter in model.parameters()]))
    (accumulated, ours), (whole, theirs) = found
    assert accumulated == pytest.approx(whole, rel=1e-12)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def _launched(task: Callable[[int], object], folder: Path) -> list[int]:
    """Two processes with the environment that torchrun gives them; their exit codes.

    A process whose partner is gone is ended by the launcher.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "1"}
    group |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    folder.mkdir(exist_ok=True)
    children = [
        _forked(
            partial(task, rank), folder / f"rank{rank}.txt",
            RANK=str(rank), LOCAL_RANK=str(rank), **group,
        )
        for rank in range(2)
    ]  # fmt: skip
    return [_ended(child) for child in children]


def test_two_processes_train_as_one_that_accumulates_two_batches_killed_or_not(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"

    def run(rank: int, name: str, killed_at: int) -> None:
        model = toys.toy(seed=rank)  # the main process's weights are everybody's
        hook = _kill_after(killed_at) if rank == 1 and killed_at else None
        conduct = Conduct(save_seconds=0.0, after_update=hook)
        toys.train(model, data, tmp_path / name, epochs=2, conduct=conduct)
        save_file(model.state_dict(), tmp_path / f"{name}-{rank}.safetensors")

    assert _launched(lambda rank: run(rank, "two", 0), logs) == [0, 0], _texts(logs)
    assert "epoch" in (logs / "rank0.txt").read_text()
    assert (logs / "rank1.txt").read_text() == ""  # one voice
    weights = [load_file(tmp_path / f"two-{rank}.safetensors") for rank in range(2)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

    toys.train(toys.toy(), data, tmp_path / "one", epochs=2, accumulate=2)
    (two_log, two_steps), (one_log, one_steps) = (_records(tmp_path / n) for n in ("two", "one"))
    assert len(two_steps) == len(one_steps) > 5
    for two, one in ((two_log, one_log), (two_steps, one_steps)):
        assert [r.keys() for r in two] == [r.keys() for r in one]
        for ours, theirs in zip(two, one, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=2e-5)

    first, second = _launched(lambda rank: run(rank, "killed", 4), logs)
    assert second == -signal.SIGKILL and first == 1, _texts(logs)
    assert 3 <= len(read_steps(tmp_path / "killed")) <= 5
    assert _launched(lambda rank: run(rank, "killed", 0), logs) == [0, 0], _texts(logs)
    assert _records(tmp_path / "killed") == _records(tmp_path / "two")
    assert _same_files(tmp_path / "killed", tmp_path / "two", "best", "state")


def _texts(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.iterdir())


def test_a_launcher_that_started_one_process_of_several_is_refused(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    """What `accelerate launch --cpu --num_processes 2` gives the one process that it starts."""
    alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "True"}
    run = partial(toys.train, toys.toy(), data, tmp_path / "run")
    assert _ended(_forked(run, tmp_path / "log", **alone)) == 1
    assert "torchrun --standalone --nproc_per_node" in (tmp_path / "log").read_text()
    assert not (tmp_path / "run").exists()


def test_speech_that_cannot_be_read_is_named_by_whichever_process_finds_it(
    toys: ModuleType, tone_manifest: Callable[..., Path]
) -> None:
    from lpa_export.training.clips import Recordings

    manifest = tone_manifest("broken", 4, seed=0)
    source = toys.source(toys.speech(manifest, recordings=Recordings(1)))
    (manifest.parent / "2.flac").write_bytes(b"no audio")
    places = [Place(0, number, [(number, 0)]) for number in range(4)]
    for workers in (0, 2):
        with pytest.raises(LpaError, match=r"2\.flac: expected an audio file") as caught:
            list(batches(source, places, workers))
        assert "\n" not in str(caught.value)


def test_a_set_number_of_batches_is_one_epoch_of_several(toys: ModuleType, data: SpeechSet) -> None:
    source = toys.source(data)
    first, second = source.plan(0), source.plan(1)
    count = len(first) + 2
    few = FirstBatches(source, count)
    assert few.plan(0) == [*first, *second[:2]]
    ours: Any = few.batch(0, count - 1, second[1])
    theirs = source.batch(1, 1, second[1])
    assert torch.equal(ours.waveforms, theirs.waveforms)


def test_mixed_precision_trains_and_keeps_weights_in_float32(
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    model, seen = toys.toy(), set()
    model.first.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    toys.train(model, data, tmp_path / "bf16", precision="bf16", epochs=2)
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    losses = [row["loss"] for row in read_steps(tmp_path / "bf16")]
    half = len(losses) // 2
    assert sum(losses[half:]) < sum(losses[:half])


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
    "nan": (
        _no_number,
        r"loss became nan \(share\) in epoch 1, batch 3 \(utterances \d.*learning_rate",
    ),
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
) -> None:
    spoil, message = FAILURES[name]
    model = toys.toy()
    loss = _spoilt(toys.loss_of(model), 3, spoil)
    with pytest.raises(LpaError, match=message) as caught:
        toys.train(model, data, tmp_path, loss=loss, epochs=1, conduct=toys.ALWAYS)
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
    toys: ModuleType, data: SpeechSet, tmp_path: Path
) -> None:
    from lpa_export.training.loop import optimise

    model, source = toys.toy(), FirstBatches(toys.source(data), 0)
    with pytest.raises(LpaError, match="epoch 1 has an empty batch"):
        optimise(model, toys.loss_of(model), source, toys.SETTINGS, tmp_path)


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


def test_a_kill_between_two_saves_costs_the_updates_since_the_last(
    toys: ModuleType, data: SpeechSet, straight: Path, tmp_path: Path
) -> None:
    """A state that is half written is another file, which nobody reads."""
    conduct = Conduct(save_seconds=0.0, after_update=_stop_after(3))
    with pytest.raises(_StoppedError):
        toys.train(toys.toy(), data, tmp_path, conduct=conduct)
    state = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / ".state.safetensors.new").write_bytes(state[: len(state) // 2])
    with pytest.raises(_StoppedError):
        toys.train(toys.toy(), data, tmp_path, conduct=Conduct(after_update=_stop_after(5)))
    assert (tmp_path / "state.safetensors").read_bytes() == state
    toys.train(toys.toy(seed=1), data, tmp_path)
    assert _records(tmp_path) == _records(straight)
    assert _same_files(tmp_path, straight, "state", "best")


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
    straight: Path,
    tmp_path: Path,
    small_files_only: Callable[[int], None],
) -> None:
    stopped = toys.toy()
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        small_files_only(4_000)
        return terms

    loss = _spoilt(toys.loss_of(stopped), 7, fill)
    with pytest.raises(LpaError, match=r"cannot be written .*the same command again") as caught:
        toys.train(stopped, data, tmp_path, loss=loss, conduct=toys.ALWAYS)
    assert "\n" not in str(caught.value)
    small_files_only(soft)
    toys.train(toys.toy(seed=3), data, tmp_path)
    assert _records(tmp_path) == _records(straight)
    assert _same_files(tmp_path, straight, "state", "best")


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
    conduct = Conduct(tensorboard=True)
    toys.train(toys.toy(), data, tmp_path, conduct=conduct, epochs=2, average_epochs=0)
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
        toys.train(toys.toy(), data, tmp_path, conduct=Conduct(tensorboard=True))


def test_without_matplotlib_a_run_has_no_picture(
    toys: ModuleType, data: SpeechSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    toys.train(toys.toy(), data, tmp_path, epochs=1)
    assert not (tmp_path / "learning_curve.png").exists()
    assert len(read_log(tmp_path)) == 2  # the epoch, and the averaged weights
