"""Ops of an ONNX artifact: all of them on the CPU (proved), and on phones (predicted).

The CPU figure is measured: the session is built with the CPU provider alone and asked which
node it gave to whom. The phone providers cannot run here; their figures come from the op lists
that ONNX Runtime ships or documents.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.formats.manifest import BundleManifest, Manifest
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.onnx import every_node, open_session, whole_model
from lpa_validate.evaluation import Opened
from lpa_validate.report import Check, Figure, judged, not_run
from lpa_validate.rules.onnx.coverage import Coverage, coverage
from lpa_validate.rules.onnx.graph import ConcreteGraph, concrete_graph, fixed_shapes, op_name
from lpa_validate.rules.onnx.macs import macs
from lpa_validate.rules.onnx.providers import Provider, all_providers

if TYPE_CHECKING:
    import onnx

__all__ = ["SECONDS", "check_ops", "kernels_missing"]

_OPEN_END = 2**31 - 1

_ONE_MESSAGE = 2**31 - 1
"""Bytes of a protobuf message."""

SECONDS = 5.0
"""Length of the clip that shapes and multiply-accumulates are counted for."""


def check_ops(validation: Opened) -> list[Check]:
    """Kernels of the CPU provider, op counts, MACs, coverage of the phone providers."""
    model = whole_model(validation.bundle)
    if model.ByteSize() > _ONE_MESSAGE:
        return [not_run("ops", "weights above 2 GiB: no copy of the graph can be made to count on")]
    missing = kernels_missing(model)
    if validation.runner is None:
        return [_refused(model, missing, validation.runner_problem)]
    elsewhere = _not_on_cpu(model)
    samples = round(SECONDS * validation.bundle.manifest.sample_rate)
    graph = _concrete(model, samples)
    providers = all_providers()
    covered = [coverage(graph.nodes, provider) for provider in providers]
    dynamic = _dynamic_inputs(model)
    figures = [
        Figure("nodes", sum(1 for _ in every_node(model.graph))),
        Figure("ops without a CPU kernel", len(missing), gate=0, comparison="=="),
        Figure("nodes not on the CPU provider", len(elsewhere), gate=0, comparison="=="),
        Figure(f"GMAC for {SECONDS:g} s", sum(map(macs, graph.nodes)) / 1e9),
    ]
    for found in covered:
        figures += _coverage_figures(found)
    details: dict[str, Any] = {
        "ops": dict(Counter(map(op_name, every_node(model.graph))).most_common()),
        "missing_kernels": missing,
        "counted_on": f"one clip of {SECONDS:g} s: shapes fixed, constants folded, "
        f"{len(graph.nodes)} nodes; input types checked only where a list speaks of them",
        "dynamic_inputs": dynamic,
        "findings": [
            *_findings(dynamic, providers),
            *_loops(validation.bundle.manifest, graph),
        ],
        "providers": [found.to_json() for found in covered],
    }
    reason = "; ".join([*missing, *elsewhere])
    return [judged("ops", figures, reason=reason, details=details)]


def _refused(model: "onnx.ModelProto", missing: list[str], problem: str) -> Check:
    """The verdict on a model that the runtime does not take: which ops, in its own words."""
    figures = [
        Figure("nodes", sum(1 for _ in every_node(model.graph))),
        Figure("ops without a CPU kernel", len(missing), gate=0, comparison="=="),
        Figure("session opens", 0, gate=1, comparison="=="),
    ]
    reason = "; ".join([*missing, problem])
    return judged("ops", figures, reason=reason, details={"missing_kernels": missing})


def kernels_missing(model: "onnx.ModelProto") -> list[str]:
    """Ops that the CPU provider has no kernel for at the model's opset, in bodies of loops too.

    An op that ONNX defines as a function is not missing: the runtime expands it.
    """
    import onnx
    from onnxruntime.capi._pybind_state import get_all_opkernel_def

    versions = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    ranges: dict[str, list[tuple[int, int]]] = {}
    for kernel in get_all_opkernel_def():
        name = f"{kernel.domain or 'ai.onnx'}:{kernel.op_name}"
        ranges.setdefault(name, []).append(kernel.version_range)
    missing = []
    used = Counter(map(op_name, every_node(model.graph)))
    # Constants become weights when the runtime loads the model: no kernel runs them.
    used.pop("ai.onnx:Constant", None)
    for name, count in used.items():
        domain, _, op = name.partition(":")
        version = versions.get(domain, 1)
        since = _since(domain, op, version)
        if any(_serves(*range_, since) for range_ in ranges.get(name, ())):
            continue
        if since and domain == "ai.onnx" and _is_function(onnx.defs.get_schema(op, version)):
            continue
        missing.append(f"no CPU kernel for {name} at opset {version} ({count} nodes)")
    return missing


def _serves(first: int, last: int, since: int) -> bool:
    """Whether a kernel for opsets first..last takes an op that has its form since that opset.

    An open-ended kernel serves only its own version: a later form of the op needs a new one
    (``KernelRegistry::VerifyKernelDef`` of ONNX Runtime).
    """
    return first == since or (last != _OPEN_END and first <= since <= last)


def _since(domain: str, op: str, version: int) -> int:
    """The opset in which the op got its present form; kernels are registered by it."""
    import onnx

    if domain != "ai.onnx":
        return version
    try:
        return int(onnx.defs.get_schema(op, version).since_version)
    except onnx.defs.SchemaError:
        return 0


def _is_function(schema: Any) -> bool:
    return bool(schema.has_function or schema.has_context_dependent_function)


def _not_on_cpu(model: "onnx.ModelProto") -> list[str]:
    """What a session of the CPU provider alone did not give to that provider.

    Raises ArtifactError with the runtime's own words when it has no kernel for a node.
    """
    session = open_session(
        model.SerializeToString(),
        level="none",
        config={"session.record_ep_graph_assignment_info": "1"},
    )
    return [
        f"{node.op_type} {node.name!r} is given to {part.ep_name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != "CPUExecutionProvider"
        for node in part.get_nodes()
    ]


def _concrete(model: "onnx.ModelProto", samples: int) -> ConcreteGraph:
    """The graph a phone provider would see for one clip of so many samples."""
    fixed = fixed_shapes(model, {"waveform": (1, samples), "lengths": (1,)})
    generator = np.random.default_rng(0)
    inputs: dict[str, np.ndarray[Any, Any]] = {
        "waveform": generator.normal(0, 0.1, (1, samples)).astype(np.float32),
        "lengths": np.array([samples], np.int64),
    }
    try:
        return concrete_graph(fixed, inputs)
    except ArtifactError as error:
        raise ArtifactError(f"{SECONDS:g} s of audio: {error}") from error


def _coverage_figures(found: Coverage) -> list[Figure]:
    name = found.provider
    return [
        Figure(f"{name}: nodes", found.node_share, "%", label="predicted"),
        Figure(f"{name}: MACs", found.mac_share, "%", label="predicted"),
        Figure(f"{name}: partitions", found.partitions, label="predicted"),
        Figure(f"{name}: longest run", found.longest_nodes, "nodes", label="predicted"),
        Figure(f"{name}: MACs in it", found.longest_mac_share, "%", label="predicted"),
    ]


def _dynamic_inputs(model: "onnx.ModelProto") -> list[str]:
    """Inputs with a dimension that is not a number."""
    return [
        value.name
        for value in model.graph.input
        if not all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    ]


def _loops(manifest: BundleManifest, graph: ConcreteGraph) -> list[str]:
    """What a front end in pieces means for providers that have no loops."""
    if not isinstance(manifest, Manifest) or manifest.front_end == "whole":
        return []
    inside = sum(macs(node) for node in graph.nodes if node.body)
    share = 100 * inside / max(1, sum(map(macs, graph.nodes)))
    return [
        f"the front end runs in pieces: {share:.0f} % of the MACs are in a Scan, which is in no "
        "provider's list; for such a provider export with --front-end whole"
    ]


def _findings(dynamic: list[str], providers: Sequence[Provider]) -> list[str]:
    """What stands between the graph as it is and the figures, per provider."""
    if not dynamic:
        return []
    return [
        f"{provider.name}: {provider.dynamic_shapes_note}; inputs {', '.join(dynamic)} are dynamic"
        for provider in providers
        if provider.dynamic_shapes != "accepted"
    ]
