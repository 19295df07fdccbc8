"""Stored values for the Swift tests of ios_demo, made here from an4-tiny and independent tools.

    python -m tests.ios_demo.vectors    writes ios_demo/Tests/Vectors anew

`test_vectors.py` makes them again and compares. What a value is held to is said at each function:
libsndfile, soxr, jiwer, numpy, hashlib, or the exporter's own Python.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soundfile

from lpa_export.formats.audio import SAMPLE_RATE, load_audio, resample
from lpa_export.formats.speech import load_utterances
from tests.ios_demo.flac_writer import (
    INDEPENDENT,
    LEFT_SIDE,
    MID_SIDE,
    SIDE_RIGHT,
    Subframe,
    flac,
    frame,
)

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "ios_demo" / "Tests" / "Vectors"
DEMO = REPOSITORY / "lpa_export" / "assets" / "demo"
AN4_TINY = REPOSITORY / "lpa_export" / "assets" / "model"

FLAC_PATTERNS = (
    *(("fixed", order) for order in range(5)),
    *(("lpc", order) for order in range(1, 33)),
)


def make(folder: Path) -> None:
    """Write every vector below `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_flac(folder)
    write_wav(folder)
    write_resampled(folder)
    write_json(folder / "digests.json", digests())
    write_json(folder / "frames.json", frame_counts())
    write_json(folder / "measures.json", measures())
    write_json(folder / "normaliser.json", normalised_texts())
    write_json(folder / "word-errors.json", word_errors())
    write_json(folder / "json.json", json_cases())
    write_json(folder / "pieces.json", long_recordings())
    write_json(folder / "decoding.json", decoded_clips())
    write_bundle_sample(folder / "bundle")
    write_json(folder / "coreml.json", coreml_runtime())
    write_json(folder / "halves.json", halves())
    write_windows(folder)


def write_json(path: Path, value: Any) -> None:
    """Sorted; a line per entry of the outermost list, or of the lists in the outermost object."""

    def lines(items: Any) -> str:
        if not isinstance(items, list):
            return json.dumps(items, sort_keys=True, ensure_ascii=False)
        text = ",\n".join(json.dumps(item, sort_keys=True, ensure_ascii=False) for item in items)
        return f"[\n{text}\n]"

    if isinstance(value, dict):
        text = ",\n".join(f'"{name}": {lines(value[name])}' for name in sorted(value))
        text = f"{{\n{text}\n}}\n"
    else:
        text = lines(value) + "\n"
    path.write_text(text, "utf-8", newline="\n")


# FLAC: the numbers that went into our own writer; for the demo clips, libsndfile's decoder.


def write_flac(folder: Path) -> None:
    (folder / "flac").mkdir()
    good = []
    for name, data, rate, depth, planes in flac_files():
        (folder / "flac" / f"{name}.flac").write_bytes(data)
        good.append(
            {
                "file": f"{name}.flac",
                "sample_rate": rate,
                "bits": depth,
                "channels": len(planes),
                "samples": len(planes[0]),
                "sha256": planes_digest(planes),
            }
        )
    write_json(folder / "flac.json", good)
    bad = []
    for name, data, problem in damaged_flac_files():
        (folder / "flac" / f"{name}.flac").write_bytes(data)
        bad.append({"file": f"{name}.flac", "problem": problem})
    write_json(folder / "flac-damaged.json", bad)
    demo = []
    for utterance in load_utterances(DEMO / "manifest.jsonl"):
        samples, rate = soundfile.read(utterance.audio, dtype="int16", always_2d=True)
        planes = samples.T.astype(np.int32)
        entry = {"file": utterance.audio.name, "sample_rate": rate, "samples": len(samples)}
        demo.append(entry | {"sha256": planes_digest(planes.tolist())})
    write_json(folder / "demo-clips.json", demo)


def planes_digest(planes: Sequence[Sequence[int]]) -> str:
    """SHA-256 of all channels one behind the other, little-endian 32-bit."""
    return hashlib.sha256(np.asarray(planes, "<i4").tobytes()).hexdigest()


def flac_files() -> Iterator[tuple[str, bytes, int, int, list[list[int]]]]:
    """(name, file, sample rate, bits, channels) of each kind of frame."""
    for index, (kind, order) in enumerate(FLAC_PATTERNS):
        depth = (16, 8, 24)[index % 3]
        how = Subframe(kind, order, partitions=index % 3, method=index % 2)
        samples = voice(index, depth, 192)
        yield _one_frame(f"{kind}-{order:02d}", [samples], [how], depth)
    names = {INDEPENDENT: "independent", LEFT_SIDE: "left-side"}
    names |= {SIDE_RIGHT: "side-right", MID_SIDE: "mid-side"}
    for mode, name in names.items():
        for depth in (8, 16, 24):
            left = voice(3, depth, 256)
            right = [a // 2 + b for a, b in zip(left, voice(4, 6, 256), strict=True)]
            hows = [Subframe("fixed", 2), Subframe("lpc", 8, method=1)]
            yield _one_frame(f"stereo-{name}-{depth}", [left, right], hows, depth, mode)
    extremes = [2**23 - 1, -(2**23)] * 64
    yield _one_frame(
        "side-of-25-bits", [extremes, [-1 - v for v in extremes]], [Subframe()] * 2, 24, LEFT_SIDE
    )
    spikes = voice(5, 16, 256)
    spikes[100] = 32767
    for method in (0, 1):
        how = Subframe("fixed", 1, partitions=3, escaped=frozenset({0, 3, 7}), method=method)
        yield _one_frame(f"escaped-{method}", [spikes], [how], 16)
    flat = [7] * 128 + voice(6, 16, 128)
    how = Subframe("fixed", 1, partitions=2, escaped=frozenset({0, 1}))
    yield _one_frame("escaped-of-no-bits", [flat], [how], 16)
    for wasted in (1, 5, 12):
        samples = [value >> wasted << wasted for value in voice(7, 16, 192)]
        for kind in ("verbatim", "fixed", "lpc"):
            how = Subframe(kind, 0 if kind == "verbatim" else 2, wasted=wasted)
            yield _one_frame(f"wasted-{wasted}-{kind}", [samples], [how], 16)
    yield _one_frame("constant", [[-12345] * 192], [Subframe("constant")], 16)
    yield _one_frame("verbatim", [voice(8, 16, 192)], [Subframe()], 16)
    yield _one_frame(
        "eight-channels", [voice(s, 16, 64) for s in range(8)], [Subframe("fixed", 2)] * 8, 16
    )
    for depth in (12, 20, 32):
        yield _one_frame(f"depth-{depth}", [voice(9, depth, 128)], [Subframe()], depth)
    yield from _streams()


def _one_frame(
    name: str,
    planes: list[list[int]],
    subframes: Sequence[Subframe],
    depth: int,
    decorrelation: int = INDEPENDENT,
) -> tuple[str, bytes, int, int, list[list[int]]]:
    made = frame(planes, subframes, depth=depth, number=0, decorrelation=decorrelation)
    data = flac([made], rate=SAMPLE_RATE, depth=depth, channels=len(planes), samples=len(planes[0]))
    return name, data, SAMPLE_RATE, depth, planes


def _streams() -> Iterator[tuple[str, bytes, int, int, list[list[int]]]]:
    """Many frames: long numbers, both ways of counting, an unknown length, fields for the rate."""
    samples = voice(10, 16, 16 * 200)
    blocks = [samples[start : start + 16] for start in range(0, len(samples), 16)]
    plain = Subframe("fixed", 1)
    frames = [frame([b], [plain], depth=16, number=n) for n, b in enumerate(blocks)]
    data = flac(frames, rate=16_000, depth=16, channels=1, samples=len(samples), padding=33)
    yield "two-hundred-frames", data, 16_000, 16, [samples]
    counted = [
        frame([b], [plain], depth=16, number=16 * n, variable=True) for n, b in enumerate(blocks)
    ]
    data = flac(counted, rate=16_000, depth=16, channels=1, samples=len(samples))
    yield "counted-in-samples", data, 16_000, 16, [samples]
    data = flac(frames, rate=16_000, depth=16, channels=1, samples=0)
    yield "length-not-known", data, 16_000, 16, [samples]
    for code, value, width, rate in ((12, 8, 8, 8_000), (13, 11_025, 16, 11_025)):
        block = voice(11, 16, 300)
        made = frame(
            [block], [plain], depth=16, number=0, rate_bits=(code, value, width), depth_code=4
        )
        data = flac([made], rate=rate, depth=16, channels=1, samples=len(block))
        yield f"rate-field-{code}", data, rate, 16, [block]
    block = voice(12, 16, 300)
    made = frame([block], [plain], depth=16, number=0, rate_bits=(14, 9_600, 16))
    data = flac([made], rate=96_000, depth=16, channels=1, samples=len(block))
    yield "rate-field-14", data, 96_000, 16, [block]


def damaged_flac_files() -> Iterator[tuple[str, bytes, str]]:
    """(name, file, word of the error that must come)."""
    samples = voice(1, 16, 192)
    made = frame([samples], [Subframe("lpc", 4)], depth=16, number=0)

    def stream(frames: Sequence[bytes], promised: int = 192) -> bytes:
        return flac(frames, rate=16_000, depth=16, channels=1, samples=promised)

    yield "bad-crc-of-frame", stream([_flipped(made, len(made) - 1)]), "CRC"
    yield "bad-crc-of-header", stream([_flipped(made, 6)]), "CRC"
    yield "bad-sample", stream([_flipped(made, len(made) // 2)]), "CRC"
    yield "cut-in-a-frame", stream([made[: len(made) // 2]]), "cut off"
    yield "cut-in-the-description", stream([made])[:20], "cut off"
    yield "one-frame-of-two", stream([made], promised=384), "cut off"
    other = frame([samples, samples], [Subframe()] * 2, depth=16, number=1)
    yield "another-format-on-the-way", stream([made, other], promised=384), "another format"
    yield "no-frame", stream([b"\0" * 64]), "no frame"
    picture = b"\x89PNG\r\n\x1a\n" + bytes(64)
    yield "a-picture", picture, "expected WAV or FLAC"


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def voice(seed: int, depth: int, count: int) -> list[int]:
    """A decaying chord with noise, in whole numbers of so many bits."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * f * time + seed) / (k + 1) for k, f in enumerate((180, 410, 900)))
    wave = 0.4 * wave * np.exp(-time * 20) + rng.normal(0, 0.01, count)
    top = 2 ** (depth - 1) - 1
    return [int(value) for value in np.clip(np.rint(wave * top), -top - 1, top)]


# WAV: libsndfile writes and reads.


def write_wav(folder: Path) -> None:
    (folder / "wav").mkdir()
    rng = np.random.default_rng(1)
    entries = []
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        for kind, channels, rate in (
            ("WAV", 1, 16_000),
            ("WAVEX", 2, 44_100),
            ("WAVEX", 8, 96_000),
        ):
            samples = rng.uniform(-1, 1, (40, channels))
            stream = io.BytesIO()
            kind = "WAV" if channels == 1 else "WAVEX"
            soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
            name = f"{subtype.lower()}-{channels}.wav"
            (folder / "wav" / name).write_bytes(_without_time(stream.getvalue()))
            stream.seek(0)
            read, _ = soundfile.read(stream, dtype="float32", always_2d=True)
            digest = hashlib.sha256(np.ascontiguousarray(read.T, "<f4").tobytes()).hexdigest()
            entry = {"file": name, "sample_rate": rate, "channels": channels, "samples": 40}
            entries.append(entry | {"sha256": digest})
    write_json(folder / "wav.json", entries)


def _without_time(wav: bytes) -> bytes:
    """Float files say when their peak was found: zeros there, so that they are made alike."""
    at = wav.find(b"PEAK")
    return wav if at < 0 else wav[: at + 12] + bytes(4) + wav[at + 16 :]


# Resampling: soxr's HQ setting.

RESAMPLED_RATES = (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000)
RESAMPLED_DB = 80.0
"""What the app's own filter must reach against soxr on speech, in dB."""


def write_resampled(folder: Path) -> None:
    """Demo speech at other rates (made by soxr, kept as 16-bit FLAC), and back at 16 kHz."""
    (folder / "resampled").mkdir()
    speech = load_audio(DEMO / "demo0008.flac")[4000:12_000]
    entries = []
    for rate in RESAMPLED_RATES:
        source = np.clip(resample(speech, SAMPLE_RATE, rate), -1, 1)
        name = f"{rate}.flac"
        soundfile.write(folder / "resampled" / name, source, rate, subtype="PCM_16")
        stored, _ = soundfile.read(folder / "resampled" / name, dtype="float32")
        expected = resample(stored, rate, SAMPLE_RATE)
        np.save(folder / "resampled" / f"{rate}.npy", expected.astype("<f4"))
        entries.append({"file": name, "expected": f"{rate}.npy", "psnr_db": RESAMPLED_DB})
    write_json(folder / "resampled.json", entries)


# Small pure functions: hashlib, torch-free arithmetic of the exporter, numpy, jiwer.


def digests() -> list[dict[str, Any]]:
    """hashlib's SHA-256 of bytes i * 7 % 251 of lengths around the block's edges."""
    lengths = (0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000, 70_000)
    data = bytes(i * 7 % 251 for i in range(max(lengths)))
    return [
        {"length": length, "sha256": hashlib.sha256(data[:length]).hexdigest()}
        for length in lengths
    ]


def frame_counts() -> list[dict[str, Any]]:
    """Lengths of what numpy's sliding windows give, for three stacks of convolutions."""
    stacks: dict[str, tuple[tuple[int, ...], ...]] = {
        "an4-tiny": ((400, 3, 3), (160, 2, 1)),
        "wav2vec2": ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)),
        "one": ((400,), (320,)),
        "padded": ((10, 3, 3), (5, 2, 2), (0, 1, 1)),
    }
    entries = []
    for name, (kernels, strides, *rest) in stacks.items():
        paddings = rest[0] if rest else (0,) * len(kernels)
        for samples in (0, 1, 399, 400, 401, 719, 720, 1359, 1360, 1361, 16_000, 16_319, 48_123):
            length = np.zeros(samples, np.int8)
            for kernel, stride, padding in zip(kernels, strides, paddings, strict=True):
                # No samples stay none: padding alone is no sound.
                length = np.pad(length, padding) if len(length) else length
                if len(length) < kernel:
                    length = length[:0]
                    break
                length = np.lib.stride_tricks.sliding_window_view(length, kernel)[::stride, 0]
            entry = {"kernels": kernels, "strides": strides, "paddings": paddings}
            entries.append(entry | {"name": name, "samples": samples, "frames": len(length)})
    return entries


def measures() -> list[dict[str, Any]]:
    """PSNR and agreement in float64 by numpy; None stands for NaN, "inf" for infinity."""
    rng = np.random.default_rng(3)
    entries = []
    for scale in (0.0, 1e-6, 1e-3, 0.3, 5.0):
        expected = rng.normal(0, 3, (6, 5)).astype(np.float32)
        found = (expected + scale * rng.normal(0, 1, expected.shape)).astype(np.float32)
        error = np.float64(expected) - np.float64(found)
        rms = np.sqrt(np.mean(error**2))
        peak = np.abs(np.float64(expected)).max()
        entries.append(
            {
                "expected": expected.astype(float).ravel().tolist(),
                "found": found.astype(float).ravel().tolist(),
                "columns": 5,
                "psnr_db": "inf" if rms == 0 else float(20 * np.log10(peak / rms)),
                "agreeing": int((expected.argmax(1) == found.argmax(1)).sum()),
                "largest": float(np.abs(error).max()),
            }
        )
    return entries


NASTY_TEXTS = (
    "",
    "   ",
    "don\u2019t",
    "rock\u00b4n`roll \uff07twas \u2032n\u02bc",
    "stra\u00dfe \ufb01ne na\u00efve \u0149",
    "a\u0301 \u00e1",
    "tab\there\nline\u2028sep\u00a0nbsp\u3000wide\u0085next",
    "\x1cfs\x1dgs\x1ers\x1fus",
    "zero\u200bwidth \ufeffmark",
    "\u01c6 \u0390 \u1f52 \u0131i I\u0307",
    "\U00010428 \U0001f600",
    "MiXeD  CaSe",
)


def normalised_texts() -> list[dict[str, Any]]:
    """The exporter's rule for several vocabularies, by the parameters that a manifest states."""
    from lpa_export.formats.normaliser import TextRule

    rules = (
        TextRule(),
        TextRule.of("abcdefghijklmnopqrstuvwxyz'"),
        TextRule.of("abc\u2019"),
        TextRule.of("aAbBcC"),
        TextRule.of([*"abcdefghijklmnopqrstuvwxyz", "\u0130", "\u0131"]),
        TextRule.of(["\u00e9", "e\u0301", "e"]),
        TextRule(unicode=None, apostrophes="", case=None),
    )
    return [
        {"text": text, "normalised": rule(text), "normaliser": rule.to_json()}
        for rule in rules
        for text in NASTY_TEXTS
    ]


def word_errors() -> list[dict[str, Any]]:
    """jiwer's own counts, utterance by utterance; of no reference words each word is inserted."""
    import jiwer

    rng = np.random.default_rng(11)
    pairs = [
        ("a b", "b a"),
        ("a b c d", "a c d b"),
        ("x", ""),
        ("", "x y"),
        ("a a a b", "a b b b"),
        ("the cat sat", "the cat sat on the mat"),
        ("caf\u00e9", "cafe\u0301"),
        ("one", "one one one"),
    ]
    words = "a b c d".split()
    for _ in range(200):
        first, second = (
            " ".join(rng.choice(words, rng.integers(1, 12)).tolist()) for _ in range(2)
        )
        pairs.append((first, second))
    entries = []
    for reference, hypothesis in pairs:
        kinds = {"substitutions": 0, "deletions": 0, "insertions": len(hypothesis.split())}
        if reference:
            result = jiwer.process_words(reference, hypothesis)
            kinds = {name: getattr(result, name) for name in kinds}
        entries.append({"reference": reference, "hypothesis": hypothesis, **kinds})
    return entries


def json_cases() -> list[dict[str, Any]]:
    """Texts, and whether Python's own reader takes them (without repeated keys and NaN)."""
    texts = (
        *('{"a": 1, "a": 2}', "[1, 2", "[1,]", "{}", "NaN", "[Infinity]", "01", "-0", "1.", ".5"),
        *('"\\ud83d\\ude00"', '"\\q"', '"\t"', "1e400", "tru", "[] []", '{"a" 1}', '"abc', ""),
        *("\ufeff[1]", "1E+2", "-", '"\\u12"', '{"a": {"b": [null, true, false]}}', "[1 2]"),
    )
    return [{"text": text, "value": _value_of(text)} for text in texts]


def _value_of(text: str) -> Any:
    def refuse(_: str) -> None:
        raise ValueError

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError
        return dict(pairs)

    try:
        value = json.loads(
            text.removeprefix("\ufeff"), parse_constant=refuse, object_pairs_hook=once
        )
    except ValueError:
        return {"refused": True}
    return {"refused": True} if value == float("inf") else {"read": value}


# The exporter's own Python, on an4-tiny and the demo speech.


def long_recordings() -> list[dict[str, Any]]:
    """Seams of demo clips joined with silence between them, as `cut_pieces` finds them."""
    from lpa_export.formats.manifest import Frames
    from lpa_export.runtimes.pieces import cut_pieces

    arithmetic = Frames((400, 3, 3), (160, 2, 1), hop=320, receptive_field=1360)
    entries = []
    for clips, gap, longest in (
        (range(0, 12), 0, 80_000),
        (range(12, 30), 4_000, 96_000),
        (range(30, 36), 12_345, 160_000),
        (range(0, 3), 100, 10_000_000),
    ):
        names = [f"demo{index:04d}.flac" for index in clips]
        waveform = joined([load_audio(DEMO / name) for name in names], gap)
        found = cut_pieces(waveform, longest=longest, frames=arithmetic)
        entries.append(
            {
                "clips": names,
                "gap": gap,
                "longest": longest,
                "pieces": [[*piece.samples, *piece.frames] for piece in found],
            }
        )
    return entries


def joined(waveforms: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """Waveforms one behind the other, each with `gap` zeros behind it."""
    silence = np.zeros(gap, np.float32)
    return np.concatenate([part for waveform in waveforms for part in (waveform, silence)])


def decoded_clips() -> dict[str, Any]:
    """Best token of each frame of every demo clip in an4-tiny (torch), its text and word times.

    Then the same of made-up frames with other vocabularies: word pieces, no delimiter, a blank in
    the middle, white space of other scripts, outputs without a name.
    """
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.formats.text import Vocabulary
    from lpa_export.runtimes.torch import TorchReference

    checkpoint = load_checkpoint(AN4_TINY)
    reference = TorchReference(checkpoint)
    clips = [
        decoded(checkpoint.vocabulary, reference.logits(load_audio(utterance.audio)).argmax(axis=1))
        | {"id": utterance.id}
        for utterance in load_utterances(DEMO / "manifest.jsonl")
    ]
    others = (
        Vocabulary(("A", "<unk>", "|", "B", "<pad>"), blank=4),
        Vocabulary(
            ("<pad>", "\u2581the", "\u2581cat", "s", "\u2581"),
            word_delimiter=None,
            texts=("", " the", " cat", "s", " "),
        ),
        Vocabulary(("a", "b", "<blank>", "e\u0301"), blank=2, word_delimiter=None),
        Vocabulary(("<pad>", "|", "one two", "\u3000x\u0085", "\x1c"), word_delimiter="|"),
        Vocabulary(("<pad>", "|", "a", "<unk>", "<unk>")),
    )
    rng = np.random.default_rng(5)
    made = [
        {"tokens": vocabulary.to_json(), "frames": decoded(vocabulary, best)}
        for vocabulary in others
        for best in (rng.integers(0, len(vocabulary), 40), np.zeros(3, int), np.zeros(0, int))
    ]
    return {"tokens": checkpoint.vocabulary.to_json(), "clips": clips, "others": made}


def decoded(vocabulary: Any, best: np.ndarray) -> dict[str, Any]:
    from lpa_export.formats.text import greedy_text, word_times

    logits = np.eye(len(vocabulary), dtype=np.float32)[best].reshape(len(best), len(vocabulary))
    words = word_times(logits, vocabulary, hop_seconds=HOP_SECONDS)
    return {
        "best": best.tolist(),
        "text": greedy_text(logits, vocabulary),
        "words": [[w.text, round(w.start, 6), round(w.end, 6)] for w in words],
    }


HOP_SECONDS = 0.02


def write_bundle_sample(folder: Path) -> None:
    """A bundle as `write_manifest` makes it, around a model of a few bytes.

    It opens and is sound; running it takes a real one.
    """
    from lpa_export.formats.bundle import write_manifest
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.formats.golden import GoldenClip, write_golden
    from lpa_export.runtimes.torch import TorchReference

    folder.mkdir()
    checkpoint = load_checkpoint(AN4_TINY)
    (folder / "model.onnx").write_bytes(b"a model of a few bytes")
    checkpoint.vocabulary.write(folder / "tokens.json")
    waveform = load_audio(DEMO / "demo0008.flac")
    taps = TorchReference(checkpoint).taps(waveform)
    kept = {name: taps[name] for name in ("encoder.embed", "logits")}
    text = "NINE NINE SIX ONE"
    write_golden(folder, [GoldenClip("demo0008", text, waveform, kept, text)])
    write_manifest(folder, sample_manifest())


def sample_manifest() -> Any:
    """What the manifest of an4-tiny's ONNX bundle says, with two taps."""
    from lpa_export.formats.manifest import Manifest, as_type
    from lpa_export.formats.normaliser import TextRule
    from lpa_export.formats.schemes import SCHEMES

    port = {"name": "waveform", "dtype": "float32", "shape": ["batch", "samples"]}
    content = {
        "artifacts": ["model.onnx"],
        "buckets": None,
        "checkpoint": {
            "name": "an4-tiny",
            "sha256": "0" * 64,
            "family": "wav2vec2",
            "layers": 6,
            "replaced_layers": [0, 1, 2, 3],
            "shipped": True,
            "figures": {"hard_wer": 13.6364},
        },
        "frames": {
            "hop": 320,
            "receptive_field": 1360,
            "kernels": [400, 3, 3],
            "strides": [160, 2, 1],
        },
        "inputs": [port],
        "lowering": {"aperiodic": "prefix_sum_gather"},
        "model": "an4-tiny",
        "normalisation": {"kind": "zero_mean_unit_variance", "where": "graph", "epsilon": 1e-7},
        "normaliser": TextRule().to_json(),
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", "frames", 29]}],
        "runtime": {},
        "sample_rate": SAMPLE_RATE,
        "selfcheck": {"status": "passed", "label": "measured", "taps": {"logits": "inf"}},
        "taps": [
            {"name": "encoder.embed", "kind": "frontend", "tensor": "stage.encoder.embed"},
            {"name": "logits", "kind": "head", "tensor": "logits"},
        ],
        "target": "onnx",
        "tools": {},
        "vocabulary": {"blank_id": 0, "size": 29, "word_delimiter": "|", "file": "tokens.json"},
    }
    row = SCHEMES["fp32"]
    return as_type(
        content
        | {"scheme": msgspec.to_builtins(row.scheme), "gates": msgspec.to_builtins(row.gates)},
        Manifest,
        "sample",
    )


def coreml_runtime() -> dict[str, Any]:
    """Programs of buckets as the Core ML target describes them, and which holds how many frames."""
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.hosts import parts_of
    from lpa_export.hosts.frames import FrameArithmetic
    from lpa_export.targets.coreml.buckets import make_buckets
    from lpa_export.targets.coreml.describe import runtime
    from lpa_export.targets.coreml.settings import CoremlSettings

    arithmetic = FrameArithmetic((400, 3, 3), (160, 2, 1))
    settings = CoremlSettings(buckets=(2.0, 6.0, 15.0), taps="outputs")
    buckets = make_buckets(settings.buckets, arithmetic, exact=False, half=True)
    cases = []
    for samples in (1360, 40_000, 41_000, 100_000, 200_000, buckets[-1].samples):
        frames = arithmetic.frames(samples)
        holds = [bucket.frames for bucket in buckets if bucket.frames >= frames]
        cases.append({"frames": frames, "bucket": min(holds)})
    return {
        "runtime": msgspec.to_builtins(
            runtime(parts_of(load_checkpoint(AN4_TINY)), buckets, settings)
        ),
        "buckets": [
            {"frames": bucket.frames, "samples": bucket.samples, "seconds": bucket.seconds}
            for bucket in buckets
        ],
        "cases": cases,
        "too_many": buckets[-1].frames + 1,
    }


def write_windows(folder: Path) -> None:
    """The windows of an4-tiny's layers on a clip, as `lpa-train windows` draws them.

    Beside them what an app computes them from: the edges that follow the speech, in the order in
    which the Core ML program puts them out, and what the manifest says of the others.
    """
    import torch

    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.hosts import lpa_layers, parts_of
    from lpa_export.targets.coreml.describe import windows
    from lpa_export.training.window_view import view_windows

    checkpoint = load_checkpoint(AN4_TINY)
    waveform = load_audio(DEMO / "demo0008.flac")
    edges: dict[int, np.ndarray] = {}

    def look(index: int) -> Any:
        def hook(lpa: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
            controls = lpa.read(inputs[0], None)[1]
            # (1, T, H, K) -> (T, K H), pulse by pulse.
            both = [edge[0].transpose(1, 2).flatten(1) for edge in (controls.lower, controls.upper)]
            edges[index] = torch.cat(both, dim=1).numpy()

        return hook

    handles = [
        layer.register_forward_hook(look(n)) for n, layer in lpa_layers(checkpoint.model).items()
    ]
    view = view_windows(checkpoint, waveform)
    for handle in handles:
        handle.remove()
    entries = []
    (folder / "windows").mkdir()
    for entry, layer in zip(windows(parts_of(checkpoint)), view.layers, strict=True):
        np.save(folder / "windows" / f"{layer.layer}.npy", edges[layer.layer].astype("<f4"))
        families = {"aperiodic": layer.moving, "periodic": layer.teeth, "positional": layer.bases}
        expected = {
            name: [spans.starts.tolist(), spans.ends.tolist()]
            for name, spans in families.items()
            if spans is not None
        }
        section = msgspec.to_builtins(entry)
        entries.append({"section": section, "frames": view.frames, "expected": expected})
    write_json(folder / "windows.json", entries)


def halves() -> list[dict[str, int]]:
    """Bits of float32 numbers and of numpy's float16 of them, ties and subnormals among them."""
    rng = np.random.default_rng(9)
    special = [0.0, -0.0, 1.0, 65504.0, 65519.9, 65520.0, 1e9, 2**-24, 2**-25, 1.5 * 2**-25, 3e-8]
    special += [2**-14, 2**-14 - 2**-26, 1 + 2**-11, 1 + 3 * 2**-11, np.inf, -np.inf, np.nan]
    numbers = np.array([*special, *(rng.normal(0, 1, 200) * 10.0 ** rng.integers(-9, 6, 200))])
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
        half = single.astype(np.float16)
    pairs = zip(single.view(np.uint32).tolist(), half.view(np.uint16).tolist(), strict=True)
    return [{"single": a, "half": b} for a, b in pairs]


if __name__ == "__main__":
    make(FOLDER)
