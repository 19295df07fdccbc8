"""How to run `model.onnx`, in Markdown, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.targets.usage import ONNXRUNTIME, decoding, int8_sums, reading

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Manifest

__all__ = ["usage"]


def usage(manifest: Manifest) -> str:
    """A snippet that runs as it stands, beside a `speech.wav`."""
    return f"""\
```python
import itertools, json, os

{ONNXRUNTIME}

session = onnxruntime.InferenceSession("{manifest.artifacts[0]}")
{reading(manifest)}
# A batch of one; rows of several are padded with anything up to the longest.
inputs = {{"waveform": waveform[None], "lengths": np.array([len(waveform)])}}
batch, frames = session.run(["logits", "frame_lengths"], inputs)
logits = batch[0, : frames[0]]
{decoding(manifest)}
```
{int8_sums(manifest)}"""
