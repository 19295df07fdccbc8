"""The ExecuTorch runner: the same logits as torch, and one line for whatever does not fit."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import Bundle
from lpa_export.runtimes import ArtifactError, pad
from lpa_export.runtimes.executorch.runner import ExecutorchRunner

from .conftest import BUCKETS, METADATA, MOST, Programs, in_buckets, noise, runtime

Make = Callable[..., Bundle]


def test_rows_of_a_padded_batch_are_computed_from_their_valid_samples(
    programs: Programs, make_bundle: Make
) -> None:
    runner = ExecutorchRunner(make_bundle(programs.dynamic))
    waveforms = [noise(samples, seed) for seed, samples in enumerate((400, 4_000, 9_999, MOST))]
    batch, lengths = pad(waveforms, extra=500)
    batch[0, 400:] = 3.0
    for found, waveform in zip(runner.run(batch, lengths), waveforms, strict=True):
        np.testing.assert_allclose(found, programs.logits(waveform), atol=1e-4)
    assert runner.label == "measured" and runner.exact


def test_stages_come_from_their_own_method_in_the_manifests_order(
    programs: Programs, make_bundle: Make
) -> None:
    runner = ExecutorchRunner(make_bundle(programs.dynamic))
    found = runner.taps(noise(4_000))
    assert runner.values == {"stage.features", "logits"}
    assert list(found) == ["features", "logits"]
    weights = programs.model.filters.weight.detach().numpy()[:, 0, 0].astype(np.float64)
    bias = programs.model.filters.bias.detach().numpy()  # type: ignore[union-attr]
    third = weights @ noise(4_000)[320:720].astype(np.float64) + bias
    np.testing.assert_allclose(found["features"][2], third, atol=1e-5)
    np.testing.assert_allclose(found["logits"], programs.logits(noise(4_000)), atol=1e-4)


def test_metadata_is_what_the_program_says_about_itself(
    programs: Programs, make_bundle: Make
) -> None:
    found = ExecutorchRunner(make_bundle(programs.dynamic)).metadata
    assert found == {name: str(value) for name, value in METADATA.items()}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (399, r"399 samples of 16 kHz audio, the model takes 400 \(0\.025 s\) at least"),
        (MOST + 1, r"1\.0 s of audio, this bundle takes 1\.0 s at most"),
    ],
)
def test_audio_beyond_the_limits_is_refused_with_its_length_and_the_limit(
    programs: Programs, make_bundle: Make, samples: int, message: str
) -> None:
    runner = ExecutorchRunner(make_bundle(programs.dynamic))
    with pytest.raises(LpaError, match=message):
        runner.run(*pad([noise(samples)]))


def test_a_bucket_hides_what_lies_behind_the_valid_samples(
    programs: Programs, make_bundle: Make
) -> None:
    runner = ExecutorchRunner(make_bundle(programs.bucketed, in_buckets(*BUCKETS)))
    short, long = noise(3_000), noise(5_000, seed=1)
    for found, waveform in zip(runner.run(*pad([short, long])), (short, long), strict=True):
        np.testing.assert_allclose(found, programs.logits(waveform), atol=1e-4)
    assert runner.buckets == (25, 50)
    for bucket in runner.buckets:
        found = runner.run_in(short, bucket, garbage=7.0)
        np.testing.assert_allclose(found, programs.logits(short), atol=1e-4)
    with pytest.raises(LpaError, match=r"this bundle takes .* at most"):
        runner.run(*pad([noise(BUCKETS[-1] + 1)]))


def test_two_runs_and_two_numbers_of_threads_are_possible(
    programs: Programs, make_bundle: Make
) -> None:
    bundle = make_bundle(programs.dynamic)
    batch = pad([noise(8_000)])
    single, double = (ExecutorchRunner(bundle, threads=count) for count in (1, 2))
    assert (single.threads, double.threads) == (1, 2)
    np.testing.assert_array_equal(single.run(*batch)[0], single.run(*batch)[0])
    np.testing.assert_allclose(single.run(*batch)[0], double.run(*batch)[0], atol=1e-5)


def test_nothing_is_printed(
    programs: Programs, make_bundle: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = ExecutorchRunner(make_bundle(programs.dynamic))
    runner.run(*pad([noise(4_000)]))
    with pytest.raises(ArtifactError):
        runner.worker.ask("run", [np.zeros((1, 2 * MOST), np.float32)], method="forward")
    assert capfd.readouterr() == ("", "")


def test_what_the_runtime_says_about_a_refusal_is_passed_on(
    programs: Programs, make_bundle: Make
) -> None:
    section = runtime(max_samples=2 * MOST)
    runner = ExecutorchRunner(make_bundle(programs.dynamic, section))
    with pytest.raises(ArtifactError, match=r"broke while running: .*resiz") as caught:
        runner.run(*pad([noise(MOST + 1)]))
    assert "\n" not in str(caught.value)


def test_without_executorch_the_line_to_install_it_is_given(
    programs: Programs, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(programs.dynamic)
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(LpaError, match=r"pip install 'lpa-export\[executorch\]'"):
        ExecutorchRunner(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamic": 1},
        {"min_samples": "none"},
        {"methods": ()},
        {"methods": ("forward", "forward")},
        {"program": None},
    ],
)
def test_a_manifest_that_does_not_say_how_to_call_the_program_is_refused(
    programs: Programs, make_bundle: Make, changes: dict[str, Any]
) -> None:
    bundle = make_bundle(programs.dynamic, runtime(**changes))
    with pytest.raises(LpaError, match=r"'runtime'.*export the bundle again"):
        ExecutorchRunner(bundle)


def test_a_method_that_the_program_does_not_have_is_named(
    programs: Programs, make_bundle: Make
) -> None:
    bundle = make_bundle(programs.dynamic, runtime(methods=("backward",)))
    with pytest.raises(ArtifactError, match=r"no method 'backward'.*forward"):
        ExecutorchRunner(bundle)


def test_a_backend_that_is_not_here_is_named(programs: Programs, make_bundle: Make) -> None:
    other = programs.dynamic.replace(b"XnnpackBackend", b"XyzpackBackend")
    with pytest.raises(LpaError, match="cannot run XyzpackBackend"):
        ExecutorchRunner(make_bundle(other))
