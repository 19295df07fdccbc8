"""The ExecuTorch target: trace, lower, check, describe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import Bucket, Normalisation, Port, Tap
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.runtimes.executorch.section import ExecutorchRuntime
from lpa_export.targets import Job, Written
from lpa_export.targets.executorch.backends import Backend, load_backend
from lpa_export.targets.executorch.settings import ExecutorchSettings
from lpa_export.targets.graph import require_plain, tap_kinds
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.targets.executorch.lower import Lowered
    from lpa_export.targets.executorch.programs import Methods

__all__ = ["BUNDLED", "DELEGATION", "PROGRAM", "ExecutorchTarget"]

PROGRAM, BUNDLED, DELEGATION = "model.pte", "model.bpte", "delegation.json"
_TOOLS = ("torch", "transformers", "executorch", "torchao")
_NEEDED = {"executorch": "executorch==1.4.1", "torchao": "torchao==0.18.0"}
_LOWERINGS = {"prefix_sum": "prefix_sum_gather", "local_dense_mask": "local_dense_mask"}


class ExecutorchTarget:
    """`model.pte` for one utterance at a time: any length, or a method per bucket."""

    def check(self, checkpoint: Checkpoint, settings: ExecutorchSettings) -> None:
        """Raise LpaError for adapters, a missing package, and settings that do not go together."""
        require_plain(checkpoint)
        for module, requirement in _NEEDED.items():
            if find_spec(module) is None:
                raise LpaError(
                    f"target executorch: the Python package {module!r} is missing; "
                    f"pip install {requirement}"
                )
        backend = load_backend(settings.backend)
        backend.require()
        lowering(settings, backend)

    def write(self, job: Job, folder: Path) -> Written:
        """Write the program, its bundled twin and the delegation map.

        Raises LpaError when the program, run on the golden clips, is not equal to the reference.
        """
        from lpa_export.targets.executorch.lower import lower

        settings: ExecutorchSettings = job.settings
        self.check(job.checkpoint, settings)
        backend = load_backend(settings.backend)
        job.announce("tracing the model")
        methods = _methods(job, settings, backend)
        job.announce("lowering the program: minutes for a large model")
        lowered = lower(methods.programs, backend, _constants(job.checkpoint, methods))
        stated = {"example_seconds": methods.example_seconds, "methods": lowered.methods}
        text = json.dumps(stated, indent=1, sort_keys=True)
        (folder / DELEGATION).write_text(text + "\n", "utf-8", newline="\n")
        (folder / PROGRAM).write_bytes(lowered.program.buffer)
        if backend.runs_here:
            job.announce("comparing the program with the model")
            _verify(job, methods, lowered, folder)
        return _describe(job.checkpoint, backend, settings, methods, lowered)


def lowering(settings: ExecutorchSettings, backend: Backend) -> str:
    """How LPA layers are written. Raises LpaError where the backend cannot take it."""
    fitting = "prefix_sum" if backend.dynamic else "local_dense_mask"
    if settings.lowering == "prefix_sum" and not backend.dynamic:
        raise LpaError(
            f"backend {backend.name} takes fixed lengths, which lowering prefix_sum is not written "
            "for; set lowering to auto or local_dense_mask"
        )
    return fitting if settings.lowering == "auto" else settings.lowering


def _methods(job: Job, settings: ExecutorchSettings, backend: Backend) -> Methods:
    from lpa_export.targets.executorch.programs import any_length, buckets

    if lowering(settings, backend) == "prefix_sum":
        if backend.name != "xnnpack" and job.scheme.name != "fp32":
            raise LpaError(
                f"backend {backend.name}: {job.scheme.name} is there for xnnpack only; "
                "leave out --quantize"
            )
        return any_length(job.checkpoint, settings, job.scheme.name)
    if job.scheme.name != "fp32":
        raise LpaError(
            f"{job.scheme.name} is there for backend xnnpack with lowering prefix_sum only; "
            "leave out --quantize"
        )
    return buckets(job.checkpoint, settings)


def _verify(job: Job, methods: Methods, lowered: Lowered, folder: Path) -> None:
    """Check the program, then write the bundled one with what its clips must give."""
    from lpa_export.targets.executorch.bundled import bundle
    from lpa_export.targets.executorch.programs import FORWARD
    from lpa_export.targets.executorch.verify import (
        require_equal,
        require_equal_in_buckets,
        require_sound,
    )

    place = folder / PROGRAM
    clips = [clip for clip in job.clips if len(clip.waveform) <= methods.max_samples]
    if methods.buckets:
        require_equal_in_buckets(place, methods.buckets, clips)
        return
    expected = {clip.id: clip.taps["logits"] for clip in clips}
    if job.scheme.name == "fp32":
        require_equal(place, job.checkpoint, clips)
    else:
        expected = require_sound(place, clips)
    (folder / BUNDLED).write_bytes(bundle(lowered.program, FORWARD, clips, expected))


def _constants(checkpoint: Checkpoint, methods: Methods) -> dict[str, Any]:
    """What an app may have lost the manifest of: methods of the program that give a constant."""
    frames = FrameArithmetic.of(checkpoint.model.config)
    return {
        "sample_rate": SAMPLE_RATE,
        "hop": frames.hop,
        "receptive_field": frames.receptive_field,
        "max_samples": methods.max_samples,
        "blank_id": checkpoint.vocabulary.blank,
        "word_delimiter": checkpoint.vocabulary.word_delimiter or "",
        "vocabulary": json.dumps(checkpoint.vocabulary.tokens, ensure_ascii=False),
    }


def _describe(
    checkpoint: Checkpoint,
    backend: Backend,
    settings: ExecutorchSettings,
    methods: Methods,
    lowered: Lowered,
) -> Written:
    from lpa_export.targets.executorch.programs import STAGES

    chosen = lowering(settings, backend)
    kinds = tap_kinds(checkpoint)
    tapped = STAGES in methods.programs
    bundled = backend.runs_here and not methods.buckets
    waveform = Port(name="waveform", dtype="float32", shape=(1, "samples"))
    lengths = Port(name="lengths", dtype="int32", shape=(1,))
    logits = (1, "frames", len(checkpoint.vocabulary))
    taps = kinds if tapped else {"logits": kinds["logits"]}
    return Written(
        artifacts=(PROGRAM,),
        lowering=_families(checkpoint, _LOWERINGS[chosen]),
        normalisation=_normalisation(checkpoint),
        inputs=(waveform, lengths) if methods.buckets else (waveform,),
        outputs=(Port(name="logits", dtype="float32", shape=logits),),
        taps=tuple(Tap(name=name, kind=kind, tensor=name) for name, kind in taps.items()),
        buckets=None
        if methods.buckets is None
        else tuple(
            Bucket(frames=bucket.frames, samples=bucket.samples, seconds=bucket.seconds)
            for bucket in methods.buckets
        ),
        tools={name: version(name) for name in _TOOLS},
        usage=_BUCKETS if methods.buckets else _USAGE,
        runtime=ExecutorchRuntime(
            backend=backend.name,
            program=PROGRAM,
            bundled=BUNDLED if bundled else None,
            delegation=DELEGATION,
            delegates=lowered.subgraphs,
            lowering=chosen,
            methods=tuple(bucket.method for bucket in methods.buckets or ()) or (methods.main,),
            taps_method=STAGES if tapped else None,
            min_samples=methods.min_samples,
            max_samples=methods.max_samples,
        ),
    )


def _families(checkpoint: Checkpoint, name: str) -> Mapping[str, str]:
    families = ("aperiodic", "periodic", "positional") if checkpoint.replaced else ()
    return dict.fromkeys(families, name)


def _normalisation(checkpoint: Checkpoint) -> Normalisation:
    if not checkpoint.do_normalize:
        return Normalisation(kind="none", where="graph")
    return Normalisation(
        kind="zero_mean_unit_variance", where="graph", epsilon=NORMALISATION_EPSILON
    )


_USAGE = """\
```python
import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("model.pte").load_method("forward")
waveform = ...  # float32 in [-1, 1], 16 kHz mono, (1, samples): the speech, no padding
logits = program.execute([waveform])[0]  # (1, frames, vocabulary)
tokens = open("tokens.txt", encoding="utf-8").read().splitlines()
ids = torch.unique_consecutive(logits[0].argmax(-1))  # merge repeats, then drop blanks
print("".join(tokens[i] for i in ids if i != 0).replace("|", " "))
```
"""
_BUCKETS = """\
`model.pte` has a method per bucket (`runtime.methods` in `manifest.json`,
in the order of `buckets`). Take the shortest that
holds the utterance, pad the waveform with zeros to its `samples`, and give the number of valid
samples as `lengths`, (1,) int32. Frames behind those of the valid samples mean nothing.
"""
