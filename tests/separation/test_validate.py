"""A separator's bundle against the original: what is sound passes, every planted fault fails."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from lpa_validate import validate
from lpa_validate.checks import checks_of
from lpa_validate.command import main
from lpa_validate.separation.evaluation import SeparationValidation
from lpa_validate.separation.padding import check_padding
from lpa_validate.separation.parity import check_parity
from lpa_validate.separation.quality import check_separation
from lpa_validate.separation.run import open_separation
from lpa_validate.separation.silence import check_silence

from lpa_export.commands.export import export
from lpa_export.errors import LpaError
from lpa_export.formats.mixtures import Mixture, MixturePlace, load_mixtures
from lpa_export.formats.separation_bundle import open_separator_bundle
from lpa_export.formats.separation_gates import SEPARATION_GATES
from lpa_export.formats.separator import load_separator
from lpa_export.runtimes.separation.torch import OriginalSeparator, SeparatorReference

from .conftest import RATE

CLIPS = 2


@pytest.fixture(scope="module")
def opened(bundle: Path, checkpoint: Path) -> SeparationValidation:
    """What checks are given of the sound bundle."""
    names = list(checks_of("onnx", "separation"))
    return open_separation(bundle, data=None, checkpoint=checkpoint, limit=CLIPS, names=names)


@dataclass(frozen=True)
class Faulty:
    """A runner whose waveforms (samples, sources) are changed on their way out."""

    sound: Any
    change: Callable[[np.ndarray], np.ndarray]

    def run(self, padded: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        return [self.change(found.copy()) for found in self.sound.run(padded, lengths)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sound, name)


def _chunk_missing(found: np.ndarray) -> np.ndarray:
    # A chunk of 50 frames of 8 samples, where the clip is loudest.
    middle = int(np.abs(found[:, 0]).argmax())
    found[max(0, middle - 200) : middle + 200] = 0.0
    return found


def _nan(found: np.ndarray) -> np.ndarray:
    found[7] = np.nan
    return found


FAULTS: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[..., Any], str]] = {
    "sign flipped": (lambda found: -found, check_parity, "SNR, worst mixture"),
    "gain of two": (lambda found: 2 * found, check_parity, "difference of level, largest"),
    "a tenth louder": (lambda found: 1.02 * found, check_parity, "difference of level, largest"),
    "one chunk missing": (_chunk_missing, check_parity, "SNR, worst mixture"),
    "silence": (np.zeros_like, check_separation, "outputs 30 dB below their input"),
    "a NaN": (_nan, check_parity, "samples NaN or infinite"),
    "a NaN in silence": (_nan, check_silence, "samples NaN or infinite"),
    "noise": (
        lambda found: found + np.random.default_rng(0).standard_normal(found.shape),
        check_separation,
        "difference of SI-SNRi",
    ),
}


def _held_to(opened: SeparationValidation, scheme: str) -> SeparationValidation:
    gates = SEPARATION_GATES[scheme]
    manifest = msgspec.structs.replace(opened.bundle.manifest, gates=gates)
    return replace(opened, bundle=replace(opened.bundle, manifest=manifest))


@pytest.mark.parametrize(("scheme", "noise_db"), [("fp32", 61.0), ("fp16", 36.0), ("int8", 25.0)])
def test_rounding_passes_and_more_of_it_does_not(
    opened: SeparationValidation, scheme: str, noise_db: float
) -> None:
    opened = _held_to(opened, scheme)

    def rounded(snr_db: float) -> SeparationValidation:
        rng = np.random.default_rng(2)

        def change(found: np.ndarray) -> np.ndarray:
            noise = rng.standard_normal(found.shape) * found.std() * 10 ** (-snr_db / 20)
            return (found + noise).astype(np.float32)

        return replace(opened, runner=Faulty(opened.runner, change))

    near, far = (check_parity(rounded(level))[0] for level in (noise_db, 8.0))
    assert near.status == "pass" and far.status == "fail"
    snr = near.figure("SNR, worst mixture").value
    assert isinstance(snr, float) and snr == pytest.approx(noise_db, abs=0.3)


@pytest.mark.parametrize("scheme", SEPARATION_GATES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails(opened: SeparationValidation, fault: str, scheme: str) -> None:
    opened = _held_to(opened, scheme)
    change, check, figure = FAULTS[fault]
    if (fault, scheme) == ("one chunk missing", "int8"):
        # Worth some decibels of a clip, which eight bits are allowed; its level is not.
        figure = "difference of level, largest"
    (sound,) = check(opened)
    assert sound.status == "pass" and sound.figure(figure).ok
    (found,) = check(replace(opened, runner=Faulty(opened.runner, change)))
    assert found.status == "fail" and found.figure(figure).failed
    assert figure in found.reason


def test_what_the_original_silences_too_is_no_fault(opened: SeparationValidation) -> None:
    silent = Faulty(opened.runner, np.zeros_like)
    reference: Any = SimpleNamespace(
        sources=lambda waveform: np.zeros((len(waveform), 1), np.float32)
    )
    (found,) = check_separation(replace(opened, runner=silent, reference=reference))
    assert found.figure("outputs 30 dB below their input").value == 0


@pytest.mark.parametrize("fault", ["sign flipped", "gain of two", "one chunk missing", "silence"])
def test_a_planted_fault_fails_against_golden_clips(
    opened: SeparationValidation, fault: str
) -> None:
    alone = replace(opened, reference=None, reference_problem="none was given")
    assert check_parity(alone)[0].status == "pass"
    change, *_ = FAULTS[fault]
    (found,) = check_parity(replace(alone, runner=Faulty(opened.runner, change)))
    assert found.status == "fail" and found.details["reference"] == "golden"


@dataclass(frozen=True)
class Leaking(Faulty):
    """Each mixture hears what its neighbour has behind its own end."""

    def run(self, padded: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        found = [item.copy() for item in self.sound.run(padded, lengths)]
        if len(padded) > 1:
            found[0] += 0.1 * np.abs(padded[1, lengths[0] + 1 :]).sum()
        return found


def test_a_neighbours_tail_shows_where_all_mixtures_are_longer_than_what_is_compared(
    opened: SeparationValidation, noisy: Callable[..., np.ndarray]
) -> None:
    mixture = Mixture(noisy(2.0), (noisy(2.0),))
    opened = replace(
        opened, places=[MixturePlace(name, lambda: mixture) for name in ("one", "two")]
    )
    assert check_padding(opened)[0].status == "pass"
    (found,) = check_padding(replace(opened, runner=Leaking(opened.runner, lambda found: found)))
    assert [figure.name for figure in found.figures if figure.failed] == [
        "SNR, beside a longer clip"
    ]


class Buckets:
    """A runner of two buckets that gives a mixture back, and garbage as it is."""

    label, min_samples, max_samples, buckets = "measured", 16, 12_000, (9_000, 12_000)

    def run(self, padded: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        return [row[:length, None] for row, length in zip(padded, lengths, strict=True)]

    def run_in(self, waveform: np.ndarray, bucket: int, *, garbage: float = 0.0) -> np.ndarray:
        return np.asarray(waveform[:, None])


def test_a_bucket_is_not_compared_with_itself(
    opened: SeparationValidation, noisy: Callable[..., np.ndarray]
) -> None:
    mixture = Mixture(noisy(1.0), (noisy(1.0),))
    runner: Any = Buckets()
    places = [MixturePlace("one", lambda: mixture)]
    (found,) = check_padding(replace(opened, runner=runner, reference=None, places=places))
    assert [figure.name for figure in found.figures] == [
        "SNR, bucket of 9000 samples, garbage",
        "SNR, bucket of 12000 samples, zeros",
        "SNR, bucket of 12000 samples, garbage",
    ]


def test_a_sound_bundle_passes_every_check_and_its_report_is_left_in_it(
    bundle: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    flags = ["--target", "onnx", "--bundle", str(copy), "--checkpoint", str(checkpoint)]
    assert main([*flags, "--limit", str(CLIPS)]) == 0
    printed = capsys.readouterr().out
    assert f"demo: {CLIPS} mixtures" in printed and "normaliser" not in printed
    report = json.loads((copy / "report.json").read_text("utf-8"))
    assert report["normaliser"] is None and report["data"]["words"] is None
    assert {check["name"]: check["status"] for check in report["checks"]} == dict.fromkeys(
        checks_of("onnx", "separation"), "pass"
    )


def test_int8_is_held_to_gates_of_its_own(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    made = export(target="onnx", checkpoint=checkpoint, out=tmp_path / "q", quantize="int8").bundle
    report = validate(
        target="onnx",
        bundle=made,
        checkpoint=checkpoint,
        checks=["integrity", "ops", "parity"],
        limit=CLIPS,
    )
    assert report.verdict == "pass"
    assert report.check("integrity").figure("share of weights compressed").value == 1.0
    snr = report.check("parity").figure("SNR, worst mixture")
    assert snr.gate == 10.0 and isinstance(snr.value, float) and 10.0 < snr.value < 60.0
    assert open_separator_bundle(made).manifest.gates.si_snri_difference_db == 0.3
    small, whole = ((folder / "model.onnx").stat().st_size for folder in (made, bundle))
    assert small < whole


def test_a_damaged_artifact_fails_and_does_not_end_the_run(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    artifact = copy / "model.onnx"
    artifact.write_bytes(artifact.read_bytes()[:-1000])
    report = validate(target="onnx", bundle=copy, checks=["integrity", "parity"], limit=1)
    assert report.verdict == "fail"
    assert "truncated" in report.check("integrity").reason
    assert report.check("parity").status == "not_run"


def test_the_reference_reads_the_checkpoint_by_itself(
    checkpoint: Path, noisy: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the exporter's loader does, and without it."""
    expected = SeparatorReference(load_separator(checkpoint).model).taps(noisy())
    monkeypatch.setattr("lpa_export.formats.separator.load_separator", None)
    monkeypatch.setattr("lpa_export.formats.separator.put_in", None)
    found = OriginalSeparator(checkpoint).taps(noisy())
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def pairs(tmp_path: Path, noisy: Callable[..., np.ndarray]) -> Path:
    """A manifest of two pairs, of another rate than the model's."""
    lines: list[str] = []
    for name in ("one", "two"):
        clean = noisy(0.5, 2 * RATE)
        noise = 0.05 * np.random.default_rng(len(lines)).standard_normal(len(clean))
        soundfile.write(tmp_path / f"{name}.wav", clean, 2 * RATE)
        soundfile.write(tmp_path / f"{name}-noisy.wav", clean + noise, 2 * RATE)
        entry = {"mixture_filepath": f"{name}-noisy.wav", "source_filepath": f"{name}.wav"}
        lines.append(json.dumps(entry | {"snr_db": 5}))
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pairs_are_read_at_the_rate_of_the_model(
    bundle: Path, checkpoint: Path, pairs: Path
) -> None:
    report = validate(
        target="onnx", bundle=bundle, checkpoint=checkpoint, data=pairs, checks=["separation"]
    )
    assert report.verdict == "pass"
    assert report.data is not None and (report.data.utterances, report.data.seconds) == (2, 1.0)
    assert report.check("separation").figure("SI-SNRi, mixtures at 5 dB").value is not None


def _add(pairs: Path, name: str, mixture: np.ndarray, clean: np.ndarray) -> None:
    soundfile.write(pairs.parent / f"{name}.wav", clean, RATE)
    soundfile.write(pairs.parent / f"{name}-noisy.wav", mixture, RATE)
    entry = {"mixture_filepath": f"{name}-noisy.wav", "source_filepath": f"{name}.wav"}
    with pairs.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def test_silence_noise_alone_and_clean_speech_are_no_fault_of_a_sound_bundle(
    bundle: Path, checkpoint: Path, pairs: Path, noisy: Callable[..., np.ndarray]
) -> None:
    silence = np.zeros(RATE)
    _add(pairs, "silence", silence, silence)
    _add(pairs, "noise", noisy(), silence)
    _add(pairs, "clean", noisy(), noisy())
    late = np.concatenate([np.zeros(2 * RATE), noisy()])
    _add(pairs, "late", late + 0.01 * (late != 0), late)
    report = validate(
        target="onnx",
        bundle=bundle,
        checkpoint=checkpoint,
        data=pairs,
        checks=["parity", "separation", "padding"],
    )
    assert {check.name: check.status for check in report.checks} == dict.fromkeys(
        ("parity", "separation", "padding"), "pass"
    )
    left_out = "mixtures of a silent source, or of nothing beside it"
    assert report.check("separation").figure(left_out).value == 3


def test_mixtures_without_anything_to_gain_are_no_measure(
    bundle: Path, checkpoint: Path, pairs: Path, noisy: Callable[..., np.ndarray]
) -> None:
    pairs.write_text("")
    _add(pairs, "clean", noisy(), noisy())
    report = validate(
        target="onnx", bundle=bundle, checkpoint=checkpoint, data=pairs, checks=["separation"]
    )
    assert report.check("separation").status == "not_run"


def test_a_mixture_shorter_than_the_model_takes_is_named(
    bundle: Path, checkpoint: Path, pairs: Path
) -> None:
    _add(pairs, "short", np.ones(10) * 0.1, np.ones(10) * 0.1)
    with pytest.raises(LpaError, match=r"short-noisy: 10 samples of 8 kHz audio, .* takes 16"):
        validate(target="onnx", bundle=bundle, checkpoint=checkpoint, data=pairs, checks=["parity"])


def test_a_report_names_its_data_and_what_it_compared_with(bundle: Path, pairs: Path) -> None:
    found = {
        check: validate(target="onnx", bundle=bundle, data=pairs, checks=[check])
        for check in ("determinism", "separation", "parity")
    }
    assert len({report.data.sha256 for report in found.values() if report.data}) == 1
    assert [report.reference is None for report in found.values()] == [True, True, False]
    _add(pairs, "more", np.ones(100) * 0.1, np.ones(100) * 0.1)
    more = validate(target="onnx", bundle=bundle, data=pairs, checks=["determinism"])
    assert more.data and found["determinism"].data
    assert more.data.sha256 != found["determinism"].data.sha256


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no JSON", "pairs.jsonl:1: expected a JSON object"),
        ('{"mixture_filepath": "one.wav"}', "needs paths in 'mixture_filepath' and"),
        ('{"mixture_filepath": "one.wav", "source_filepath": ["one.wav", "two.wav"]}', "2 sources"),
        ('{"mixture_filepath": "no.wav", "source_filepath": "one.wav"}', "no audio file"),
        ('{"mixture_filepath": "%s", "source_filepath": "one.wav"}' % ("a" * 300), "no audio file"),
        ('{"speech": "a", "noise": "b"}', "give the recipe itself"),
        ("", "lists no mixture"),
    ],
)
def test_data_of_another_form_is_refused_in_one_line(pairs: Path, line: str, said: str) -> None:
    pairs.write_text(line + "\n")
    with pytest.raises(LpaError, match=said):
        load_mixtures(pairs, sample_rate=RATE, sources=1)


def test_a_mixture_that_is_longer_than_its_source_is_refused(pairs: Path) -> None:
    (place, *_) = load_mixtures(pairs, sample_rate=RATE, sources=1)
    soundfile.write(pairs.parent / "one.wav", np.ones(100) * 0.1, RATE)
    with pytest.raises(LpaError, match="differ in length"):
        place.read()


def test_what_goes_with_recognisers_is_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--target", "onnx", "--bundle", str(bundle)]
    for other, said in (
        (["--jobs", "2"], "leave out --jobs"),
        (["--checks", "wer"], "has no check wer"),
    ):
        assert main([*flags, *other]) == 2
        captured = capsys.readouterr().err
        assert captured.count("\n") == 1 and said in captured
