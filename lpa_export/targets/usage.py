"""Lines that every model card's snippet shares, generated from the manifest.

A target's own module of this name says how its artifact is called; what comes before and behind
depends on the model alone: its rate, its frames, its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpa_export.formats.manifest import BundleManifest, Manifest

__all__ = [
    "ONNXRUNTIME",
    "decoding",
    "decoding_in_words",
    "frame_count",
    "int8_sums",
    "reading",
    "recording",
]

ONNXRUNTIME = """\
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import numpy as np, onnxruntime, soundfile"""
"""Python: the imports of a snippet that runs on ONNX Runtime; `os` is imported before."""


def int8_sums(manifest: BundleManifest) -> str:
    """Markdown: where ONNX Runtime's numbers are others than on a phone; nothing but for int8."""
    if manifest.scheme.weights != "int8":
        return ""
    return """
ONNX Runtime clips the sums of int8 products on x86 without VNNI (Intel before 2019, AMD before
Zen 4): the numbers are worse there than on a phone. `with_unsigned_products` of
`lpa_export.runtimes.onnx` makes a model of this one that is exact on those too; lpa-export's own
commands run it so there.
"""


def recording(manifest: BundleManifest, file: str) -> str:
    """Python: `waveform`, (samples,) in [-1, 1], what `file` holds at the model's rate."""
    lines = [
        f'waveform, rate = soundfile.read("{file}", dtype="float32")  # mono, in [-1, 1]',
        f"assert rate == {manifest.sample_rate}",
    ]
    if manifest.buckets is not None:
        longest = manifest.buckets[-1]
        said = f"longer than the {longest.seconds:g} s of the longest bucket"
        lines.append(f'assert len(waveform) <= {longest.samples}, "{said}"')
    return "\n".join(lines)


def reading(manifest: Manifest) -> str:
    """Python: `waveform`, (samples,) as the artifact takes it."""
    lines = [recording(manifest, "speech.wav")]
    stated = manifest.normalisation
    if stated.where == "app" and stated.kind != "none":
        lines.append(
            "waveform = (waveform - waveform.mean()) / "
            f"np.sqrt(waveform.var() + {stated.epsilon:g})"
        )
    return "\n".join(lines)


def frame_count(manifest: Manifest) -> str:
    """Python: `frames`, how many frames of the output belong to `waveform`."""
    stated = manifest.frames
    paddings = stated.paddings or (0,) * len(stated.kernels)
    convolutions = list(zip(stated.kernels, stated.strides, paddings, strict=True))
    return (
        "frames = len(waveform)\n"
        f"for kernel, stride, padding in {convolutions}:\n"
        "    frames = (frames + 2 * padding - kernel) // stride + 1"
    )


def decoding(manifest: Manifest) -> str:
    """Python: the text of `logits` (frames, vocabulary), printed."""
    return (
        f'tokens = json.load(open("{manifest.vocabulary.file}", encoding="utf-8"))["tokens"]\n'
        "best = [tokens[index] for index in logits.argmax(-1)]  # the best token of each frame\n"
        "spoken = [token for token, _ in itertools.groupby(best)]  # repeats are one\n"
        'print("".join(token["text"] for token in spoken).strip())  # that of the blank is empty'
    )


def decoding_in_words(manifest: Manifest) -> str:
    """The same for other languages."""
    return (
        f"Of each valid frame take the best token, merge repeats, and join what each says (`text` "
        f"in `{manifest.vocabulary.file}`; that of the blank, id {manifest.vocabulary.blank_id}, "
        "is empty); white space at the ends goes."
    )
