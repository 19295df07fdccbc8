"""How to run an MLX bundle, in Markdown, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.formats.manifest import as_type
from lpa_export.runtimes.mlx.section import MlxRuntime
from lpa_export.targets.usage import decoding, decoding_in_words, frame_count, reading

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Manifest

__all__ = ["elsewhere", "usage"]


def usage(manifest: Manifest) -> str:
    """A snippet that runs as it stands, beside a `speech.wav`."""
    runtime = as_type(manifest.runtime, MlxRuntime, "'runtime'")
    return f"""\
```python
import itertools, json
import mlx.core as mx
import numpy as np, soundfile

program = mx.compile(mx.import_function("{runtime.program}"))
{reading(manifest)}
manifest = json.load(open("manifest.json", encoding="utf-8"))
samples = next(b["samples"] for b in manifest["buckets"] if len(waveform) <= b["samples"])
padded = mx.pad(mx.array(waveform)[None], [(0, 0), (0, samples - len(waveform))])
(logits,) = program(padded, mx.array([len(waveform)]))
{frame_count(manifest)}
# Frames behind those of the speech mean nothing.
logits = np.array(logits[0, :frames])
{decoding(manifest)}
```

{elsewhere(runtime, "lpa_export.targets.mlx.model.load")} {decoding_in_words(manifest)}
"""


def elsewhere(runtime: MlxRuntime, load: str) -> str:
    """Where the program runs, what runs where it does not, and what `load` is for."""
    other = "; a machine without a GPU wants one of `lpa-export --target mlx --device cpu`"
    if runtime.device == "cpu":
        other = ""
    return (
        f'The program runs on the {runtime.device}{other}. For any length `{load}(".")` builds '
        f"the model from `{runtime.weights}` and `{runtime.config}`. In Swift mlx-swift's "
        "`importFunction` loads the program."
    )
