"""Which part of the encoder suffers most from compressed weights.

    python tests/targets/coreml/measure_sensitivity.py build/an4-tiny/coreml-palette4 \
        --data dev.jsonl [--limit 24]

For each part the compressed weights of a bundle are put into the uncompressed torch encoder, all
other weights staying as they are, and the logits are compared. Computed in float32 torch from the
weights as the package stores them: neither Core ML nor its arithmetic takes part.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from lpa_export.environment import quiet_libraries
from lpa_export.formats.audio import load_audio
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.checkpoint import Checkpoint, load_checkpoint
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.formats.text import greedy_text, normalise_text
from lpa_export.hosts import parts_of
from lpa_export.measures.arrays import psnr
from lpa_export.measures.word_errors import count_errors
from lpa_export.runtimes.coreml import load_package
from lpa_export.runtimes.coreml.runner import coreml_steps
from lpa_export.targets.coreml.programs import Encoder, FrontEnd

Weights = Mapping[str, torch.Tensor]
_PARTS = ("lpa", "attention", "feed_forward", "positional")


def compressed_weights(bundle: Path, encoder: Encoder) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters of `encoder` that the bundle stores compressed, as they come out again."""
    opened = open_bundle(bundle)
    _, encoders = coreml_steps(opened)
    package = load_package(opened.path / encoders[0].package)
    stored = {
        operation.name: operation
        for operation in package.function(encoders[0].function).operations
        if operation.op_type.startswith("constexpr_")
    }
    for name, parameter in encoder.named_parameters():
        plain = name.replace(".", "_")
        for suffix in ("quantized", "palettized"):
            operation = stored.get(f"{plain}_to_fp16_{suffix}")
            if operation is not None:
                value = np.asarray(operation.materialized_val_inference(), np.float32)
                yield name, torch.from_numpy(value.reshape(parameter.shape).copy())


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Part (`layers.2 lpa`, `positional`) -> its parameters."""
    parts: dict[str, list[str]] = {}
    for name in names:
        path = name.split(".")
        kind = next(piece for piece in path if piece in _PARTS)
        parts.setdefault(f"layer {path[1]}, {kind}" if path[0] == "layers" else kind, []).append(
            name
        )
    return parts


def logits_of(encoder: Encoder, inputs: Sequence[torch.Tensor], frames: int) -> list[np.ndarray]:
    """(frames, vocabulary) of each clip's projected features (1, D, 1, n)."""
    found = []
    for projected in inputs:
        valid = projected.shape[-1]
        padded = torch.nn.functional.pad(projected, (0, frames - valid))
        mask = (torch.arange(frames) < valid).float().view(1, 1, 1, -1)
        found.append(encoder(padded, mask)[0][0, :, 0, :valid].T.numpy())
    return found


def report(
    checkpoint: Checkpoint, bundle: Path, utterances: Sequence[Utterance]
) -> Iterator[tuple[str, float, float]]:
    """(part, dB, WER in percent), from nothing compressed to everything."""
    parts = parts_of(checkpoint)
    front_end = FrontEnd(parts)
    clips = [load_audio(utterance.audio) for utterance in utterances]
    inputs = [front_end(torch.from_numpy(clip)[None])[0] for clip in clips]
    frames = -(-max(projected.shape[-1] for projected in inputs) // 64) * 64
    encoder = Encoder(parts, frames)
    original = {name: value.clone() for name, value in encoder.named_parameters()}
    compressed = dict(compressed_weights(bundle, encoder))
    expected = logits_of(encoder, inputs, frames)
    texts = [utterance.text for utterance in utterances]
    choices = {"nothing": [], **grouped(list(compressed)), "everything": list(compressed)}
    for part, names in choices.items():
        given: Weights = original | {name: compressed[name] for name in names}
        encoder.load_state_dict(dict(given), strict=False)
        found = logits_of(encoder, inputs, frames)
        heard = [greedy_text(logits, checkpoint.vocabulary) for logits in found]
        level = psnr(np.concatenate(expected), np.concatenate(found))
        yield part, float(level), count_errors(texts, heard, normalise_text).wer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--checkpoint")
    arguments = parser.parse_args()
    quiet_libraries()
    utterances = load_utterances(arguments.data, limit=arguments.limit)
    with torch.inference_mode():
        rows = report(load_checkpoint(arguments.checkpoint), arguments.bundle, utterances)
        print(f"| compressed as in {arguments.bundle.name} | PSNR, dB | WER, % |")
        print("| --- | ---: | ---: |")
        for part, level, wer in rows:
            print(f"| {part} | {level:.1f} | {wer:.2f} |")


if __name__ == "__main__":
    main()
