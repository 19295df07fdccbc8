"""Ops of an ExecuTorch artifact: what its delegates take, and what is left to kernels.

Counts, sizes and memory are read from the ``.pte`` itself. Multiply-accumulates and source lines
are stated by the export in ``delegation.json``; where both can speak, they must agree.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.opened import worker_of
from lpa_export.runtimes.executorch.process import Worker
from lpa_export.runtimes.executorch.program import (
    Delegate,
    Method,
    Program,
    constant_methods,
    read_program,
)
from lpa_export.runtimes.executorch.section import file_of, method_for, runtime_of
from lpa_validate.evaluation import Opened
from lpa_validate.report import Check, Figure, gated, judged
from lpa_validate.rules.executorch.delegation import (
    Delegation,
    disagreements,
    outside,
    read_delegation,
)
from lpa_validate.rules.executorch.xnnpack import BACKEND, read_graph

__all__ = ["SECONDS", "check_ops"]

SECONDS = 5.0
"""Of a program in buckets, the one for a clip of this length is described."""

_MATRIX_KERNELS = frozenset(
    f"aten::{name}.out" for name in ("linear", "addmm", "mm", "convolution", "_convolution")
)


def check_ops(validation: Opened) -> list[Check]:
    """Delegation, kernels and memory of the program."""
    bundle = validation.bundle
    runtime = runtime_of(bundle)
    path = file_of(bundle, runtime.program)
    program = read_program(path)
    samples = min(round(SECONDS * bundle.manifest.sample_rate), runtime.max_samples)
    buckets = bundle.manifest.buckets or ()
    method = program.method(method_for(runtime, buckets, samples))
    statements = read_delegation(file_of(bundle, runtime.delegation))
    if method.name not in statements:
        raise ArtifactError(f"{runtime.delegation} says nothing of method {method.name!r}")
    stated = statements[method.name]
    worker = worker_of(validation.runner)
    registry = worker.ask("registry")[0]
    missing = _missing_kernels(program, registry["operators"])
    absent = sorted({d.backend for d in method.delegates} - set(registry["backends"]))
    differences = [
        f"{name}: {line}"
        for name, statement in statements.items()
        for line in disagreements(statement, program.method(name))
    ]
    # XNNPACK has to take all linear layers and convolutions, whatever the scheme.
    whole = runtime.backend == "xnnpack"
    figures = [
        *_stated_figures(stated, whole),
        *_found_figures(program, method, whole),
        Figure("kernels the runtime does not have", len(missing), gate=0, comparison="=="),
        Figure("statements the program belies", len(differences), gate=0, comparison="=="),
    ]
    details: dict[str, Any] = {
        "method": method.name,
        "counted_on": "the length of the bucket" if buckets else f"{stated.seconds:g} s of audio",
        "outside": outside(stated.nodes),
        "kernels": dict(sorted(method.kernels.items(), key=lambda item: -item[1])),
        "missing_kernels": missing,
        "disagreements": differences,
        "delegates": [_described(delegate) for delegate in method.delegates],
        "backends_absent_here": absent,
        "memory": _memory(program, method),
        "timing": _timing(worker, path, program),
    }
    reason = "; ".join([*missing, *differences])
    return [judged("ops", figures, reason=reason, details=details)]


def _stated_figures(stated: Delegation, whole: bool) -> list[Figure]:
    matrix = stated.matrix_mac_share
    return [
        Figure("nodes", len(stated.nodes), label="stated"),
        Figure("nodes delegated", stated.node_share, "%", label="stated"),
        Figure("MACs delegated", stated.mac_share, "%", label="stated"),
        Figure(
            "linear and convolution MACs delegated",
            matrix,
            "%",
            gate=100.0 if whole else None,
            comparison="==" if whole else None,
            label="stated",
        ),
    ]


def _found_figures(program: Program, method: Method, whole: bool) -> list[Figure]:
    inside = sum(_weights(method.delegates, program).values())
    total = inside + program.constant_bytes
    matrix = sum(count for name, count in method.kernels.items() if name in _MATRIX_KERNELS)
    return [
        gated("linear and convolution kernels outside", matrix, 0 if whole else None, "=="),
        Figure("subgraphs", len(method.delegate_calls)),
        Figure("kernel calls outside", sum(method.kernels.values())),
        Figure("weights inside delegates", 100.0 * inside / total if total else 100.0, "%"),
        Figure("planned memory", method.planned_bytes, "bytes"),
        Figure("program", program.size, "bytes"),
    ]


def _weights(delegates: Sequence[Delegate], program: Program) -> dict[str, int]:
    """Bytes that the delegates carry: named data counts once, however many share it."""
    sizes: dict[str, int] = {}
    for index, delegate in enumerate(delegates):
        if delegate.backend != BACKEND:
            sizes[f"delegate {index}"] = len(delegate.data)
            continue
        graph = read_graph(delegate.data)
        sizes[f"delegate {index}"] = graph.inline_weight_bytes
        sizes |= {name: program.named.get(name, 0) for name in graph.weights}
    return sizes


def _missing_kernels(program: Program, known: Sequence[str]) -> list[str]:
    used: Counter[str] = Counter()
    for method in program.methods:
        used.update(method.kernels)
    there = set(known)
    return [
        f"no kernel for {name} in the runtime ({count} calls)"
        for name, count in sorted(used.items())
        if name not in there
    ]


def _described(delegate: Delegate) -> dict[str, Any]:
    described: dict[str, Any] = {"backend": delegate.backend, "bytes": len(delegate.data)}
    if delegate.backend == BACKEND:
        described["nodes"] = dict(read_graph(delegate.data).nodes)
    return described


def _memory(program: Program, method: Method) -> dict[str, int]:
    return {
        "planned_bytes": method.planned_bytes,
        "constant_bytes": program.constant_bytes,
        "delegate_data_bytes": sum(len(delegate.data) for delegate in method.delegates),
        "named_data_bytes": sum(program.named.values()),
        "file_bytes": program.size,
    }


def _timing(worker: Worker, path: Path, program: Program) -> str:
    """Why there is no time per op: only a runtime built with its event tracer records any."""
    constants = constant_methods(program)
    if not constants:
        return "not run: the program has no method without inputs to try the event tracer on"
    with tempfile.TemporaryDirectory(prefix="lpa-validate-") as folder:
        request = {"path": str(path), "method": constants[0], "to": f"{folder}/events.etdp"}
        try:
            recorded = worker.ask("events", **request)[0]["recorded"]
        except ArtifactError as error:
            return f"not run: {error}"
    if recorded:
        return "not run: this runtime records events, which lpa-validate does not read"
    return "not available in this executorch wheel: it is built without the event tracer"
