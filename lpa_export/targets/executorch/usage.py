"""How to run `model.pte`, in Markdown, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.formats.manifest import as_type
from lpa_export.runtimes.executorch.section import ExecutorchRuntime
from lpa_export.targets.usage import decoding, decoding_in_words, frame_count, reading

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Manifest

__all__ = ["usage"]


def usage(manifest: Manifest) -> str:
    """A snippet that runs as it stands, beside a `speech.wav`, where the backend runs at all."""
    runtime = as_type(manifest.runtime, ExecutorchRuntime, "'runtime'")
    call = _any_length(runtime) if manifest.buckets is None else _in_buckets(manifest)
    return f"""\
```python
import itertools, json
import soundfile, torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("{runtime.program}")
{reading(manifest)}
{call}
{decoding(manifest)}
```

The program takes {runtime.min_samples} to {runtime.max_samples} samples. An app on a device calls
the same methods. {decoding_in_words(manifest)}
"""


def _any_length(runtime: ExecutorchRuntime) -> str:
    return (
        "# The speech alone, no padding: (1, samples) -> (1, frames, vocabulary).\n"
        f'outputs = program.load_method("{runtime.methods[0]}")'
        ".execute([torch.from_numpy(waveform)[None]])\n"
        "logits = outputs[0][0].numpy()"
    )


def _in_buckets(manifest: Manifest) -> str:
    """A method per length: the shortest that holds the speech, padded with zeros."""
    lengths = manifest.inputs[1]
    return f"""\
manifest = json.load(open("manifest.json", encoding="utf-8"))
methods = zip(manifest["buckets"], manifest["runtime"]["methods"])
bucket, method = next(pair for pair in methods if len(waveform) <= pair[0]["samples"])
padded = torch.zeros(1, bucket["samples"])
padded[0, : len(waveform)] = torch.from_numpy(waveform)
lengths = torch.tensor([len(waveform)], dtype=torch.{lengths.dtype})
{frame_count(manifest)}
# Frames behind those of the speech mean nothing.
logits = program.load_method(method).execute([padded, lengths])[0][0, :frames].numpy()"""
