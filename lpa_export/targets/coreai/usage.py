"""How to run a Core AI bundle, in Markdown, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.formats.manifest import as_type
from lpa_export.runtimes.coreai.section import CoreaiRuntime
from lpa_export.targets.usage import decoding, decoding_in_words, frame_count, reading

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Manifest

__all__ = ["usage"]


def usage(manifest: Manifest) -> str:
    """A snippet that runs as it stands, beside a `speech.wav`."""
    runtime = as_type(manifest.runtime, CoreaiRuntime, "'runtime'")
    return f"""\
```python
import asyncio, itertools, json
from pathlib import Path
import numpy as np, soundfile
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray

{reading(manifest)}
manifest = json.load(open("manifest.json", encoding="utf-8"))
bucket = next(b for b in manifest["buckets"] if len(waveform) <= b["samples"])
padded = np.zeros((1, bucket["samples"]), np.float32)
padded[0, : len(waveform)] = waveform
lengths = np.array([len(waveform)], np.int32)

async def run():
    async with AIModelAsset.load(Path("{runtime.program}")).executable() as model:
        function = model.load_function(f"frames_{{bucket['frames']}}")
        found = await function({{"waveform": NDArray(padded), "lengths": NDArray(lengths)}})
        return np.array(found["logits"].numpy())

{frame_count(manifest)}
# Frames behind those of the speech mean nothing.
logits = asyncio.run(run())[0, :frames]
{decoding(manifest)}
```

An app on iOS 27 calls the same functions. {decoding_in_words(manifest)}
"""
