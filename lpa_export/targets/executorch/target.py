"""The ExecuTorch target: trace, lower, describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import Port
from lpa_export.hosts import parts_of
from lpa_export.runtimes.executorch.section import ExecutorchRuntime
from lpa_export.targets import Job, Written
from lpa_export.targets.describe import (
    families,
    normalisation,
    own_words,
    require_exportable,
    taps,
    tools,
)
from lpa_export.targets.executorch.backends import Backend, load_backend

if TYPE_CHECKING:
    import numpy as np

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.hosts.parts import Parts
    from lpa_export.targets.executorch.lower import Lowered
    from lpa_export.targets.executorch.programs import Methods
    from lpa_export.targets.executorch.settings import ExecutorchSettings

__all__ = ["BUNDLED", "DELEGATION", "PROGRAM", "ExecutorchTarget", "write_delegation"]

PROGRAM, BUNDLED, DELEGATION = "model.pte", "model.bpte", "delegation.json"
_LOWERINGS = {"prefix_sum": "prefix_sum_gather", "local_dense_mask": "local_dense_mask"}


class ExecutorchTarget:
    """`model.pte` for one utterance at a time: any length, or a method per bucket."""

    def check(self, checkpoint: Checkpoint, settings: ExecutorchSettings, scheme: Scheme) -> None:
        """Raise LpaError for what does not go together."""
        require_exportable(checkpoint)
        backend = load_backend(settings.backend)
        backend.require()
        _require_scheme(lowering(settings, backend), backend, scheme)

    def write(self, job: Job, folder: Path) -> Written:
        """Write the program, its bundled twin and the delegation map."""
        from lpa_export.targets.executorch.lower import lower

        settings: ExecutorchSettings = job.settings
        backend = load_backend(settings.backend)
        parts = parts_of(job.checkpoint)
        job.announce("tracing the model")
        methods = _methods(parts, settings, backend, job.scheme)
        job.announce("lowering the program: minutes for a large model")
        constants = own_words(job.checkpoint) | {"max_samples": methods.max_samples}
        lowered = lower(methods.programs, backend, constants)
        write_delegation(folder, lowered, methods.example_seconds)
        (folder / PROGRAM).write_bytes(lowered.program.buffer)
        if backend.runs_here and not methods.buckets:
            job.announce("writing the bundled program")
            _write_bundled(job, methods, lowered, folder)
        return _describe(job.checkpoint, parts, backend, settings, methods, lowered)


def write_delegation(folder: Path, lowered: Lowered, example_seconds: float) -> str:
    """Write which operator of each method went where, and give the file's name.

    `example_seconds`: the length that multiplications are counted for.
    """
    stated = {"example_seconds": example_seconds, "methods": lowered.methods}
    text = json.dumps(stated, indent=1, sort_keys=True)
    (folder / DELEGATION).write_text(text + "\n", "utf-8", newline="\n")
    return DELEGATION


def lowering(settings: ExecutorchSettings, backend: Backend) -> str:
    """How LPA layers are written. Raises LpaError where the backend cannot take it."""
    fitting = "prefix_sum" if backend.dynamic else "local_dense_mask"
    if settings.lowering == "prefix_sum" and not backend.dynamic:
        raise LpaError(
            f"backend {backend.name} takes fixed lengths, which lowering prefix_sum is not written "
            "for; set lowering to auto or local_dense_mask"
        )
    return fitting if settings.lowering == "auto" else settings.lowering


def _methods(
    parts: Parts, settings: ExecutorchSettings, backend: Backend, scheme: Scheme
) -> Methods:
    from lpa_export.targets.executorch.programs import any_length, buckets

    if lowering(settings, backend) == "prefix_sum":
        return any_length(parts, settings, scheme)
    return buckets(parts, settings)


def _require_scheme(chosen: str, backend: Backend, scheme: Scheme) -> None:
    """Raise LpaError for int8 where no quantiser is for it; `chosen`: how layers are lowered."""
    if scheme.name == "fp32":
        return
    if chosen != "prefix_sum":
        raise LpaError(
            f"{scheme.name} is there for backend xnnpack with lowering prefix_sum only; "
            "leave out --quantize"
        )
    if backend.name != "xnnpack":
        raise LpaError(
            f"backend {backend.name}: {scheme.name} is there for xnnpack only; leave out --quantize"
        )


def _write_bundled(job: Job, methods: Methods, lowered: Lowered, folder: Path) -> None:
    """The program with the golden clips that fit in, and the logits that they must give."""
    from lpa_export.targets.executorch.bundled import bundle

    clips = [clip for clip in job.clips if len(clip.waveform) <= methods.max_samples]
    if job.scheme.name == "fp32":
        expected = {clip.id: clip.taps["logits"] for clip in clips}
    else:
        # A quantised program repeats itself on another device, not the model it came from.
        expected = _own_logits(folder / PROGRAM, {clip.id: clip.waveform for clip in clips})
    (folder / BUNDLED).write_bytes(bundle(lowered.program, methods.main, clips, expected))


def _own_logits(program: Path, waveforms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(frames, V) of each waveform (samples,). Raises LpaError when the program breaks."""
    from lpa_export.runtimes import ArtifactError
    from lpa_export.runtimes.executorch.process import Worker
    from lpa_export.targets.executorch.programs import FORWARD

    worker = Worker()
    try:
        worker.ask("open", path=str(program))
        return {
            clip: worker.ask("run", [waveform[None]], method=FORWARD)[1][0][0]
            for clip, waveform in waveforms.items()
        }
    except ArtifactError as error:
        raise LpaError(
            f"the ExecuTorch runtime fails on the exported program ({error}); nothing was "
            "written, please report it with the checkpoint"
        ) from error
    finally:
        worker.close()


def _describe(
    checkpoint: Checkpoint,
    parts: Parts,
    backend: Backend,
    settings: ExecutorchSettings,
    methods: Methods,
    lowered: Lowered,
) -> Written:
    from lpa_export.targets.executorch.programs import TAPS

    chosen = lowering(settings, backend)
    tapped = TAPS in methods.programs
    bundled = backend.runs_here and not methods.buckets
    waveform = Port(name="waveform", dtype="float32", shape=(1, "samples"))
    lengths = Port(name="lengths", dtype="int32", shape=(1,))
    logits = (1, "frames", len(checkpoint.vocabulary))
    every = taps(parts, lambda tap: tap)
    return Written(
        artifacts=(PROGRAM,),
        lowering=families(parts, _LOWERINGS[chosen]),
        normalisation=normalisation(parts.do_normalize),
        inputs=(waveform, lengths) if methods.buckets else (waveform,),
        outputs=(Port(name="logits", dtype="float32", shape=logits),),
        taps=every if tapped else every[-1:],
        buckets=methods.buckets,
        tools=tools("torch", "transformers", "executorch", "torchao"),
        runtime=ExecutorchRuntime(
            backend=backend.name,
            program=PROGRAM,
            bundled=BUNDLED if bundled else None,
            delegation=DELEGATION,
            delegates=lowered.subgraphs,
            lowering=chosen,
            methods=tuple(bucket.program for bucket in methods.buckets or ()) or (methods.main,),
            taps_method=TAPS if tapped else None,
            min_samples=methods.min_samples,
            max_samples=methods.max_samples,
        ),
        compression=methods.compression,
        unrunnable=backend.unrunnable,
    )
