"""coremltools' MLComputePlan, read into plain data.

https://apple.github.io/coremltools/source/coremltools.models.html#compute-plan
"""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpa_export.environment import quiet
from lpa_export.runtimes.coreml.errors import one_line
from lpa_validate.rules.compute_plan.plan import Device, Plan, PlannedOp

__all__ = ["UNITS", "PlanUnavailable", "compiled", "plans", "read_plan", "unavailable"]

UNITS = "CPU_AND_NE"
"""Compute units a plan is asked for: no GPU, so that what leaves the Neural Engine shows."""

_MIN_MACOS = (14, 4)
_DEVICES: dict[str, Device] = {
    "MLNeuralEngineComputeDevice": "neural engine",
    "MLGPUComputeDevice": "gpu",
    "MLCPUComputeDevice": "cpu",
}


class PlanUnavailable(Exception):
    """Core ML gives no plan here; the message, one line, says why."""


def unavailable() -> str:
    """Why there is no MLComputePlan on this system, "" when there is."""
    if platform.system() != "Darwin":
        return f"MLComputePlan needs macOS {_version(_MIN_MACOS)}; this is {platform.system()}"
    found = tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2] if part.isdigit())
    if found < _MIN_MACOS:
        return f"MLComputePlan needs macOS {_version(_MIN_MACOS)}; this is {_version(found)}"
    return ""


@contextmanager
def compiled(package: Path) -> Iterator[Path]:
    """``package`` compiled for this machine, for as long as the block runs.

    Raises PlanUnavailable when Core ML does not compile it.
    """
    with TemporaryDirectory() as folder:
        target = Path(folder) / f"{package.stem}.mlmodelc"
        with quiet():
            from coremltools.models.utils import compile_model

            try:
                compile_model(str(package.resolve()), str(target))
            except Exception as error:  # Core ML's own words come as RuntimeError
                raise PlanUnavailable(f"{package.name}: {one_line(error)[:200]}") from error
        yield target


def plans(model: Path, functions: Sequence[str], units: str = UNITS) -> dict[str, Plan]:
    """Function -> plan of a compiled model. Raises PlanUnavailable when Core ML gives none."""
    with quiet():
        import coremltools
        from coremltools.models.compute_plan import MLComputePlan

        try:
            plan = MLComputePlan.load_from_path(str(model), coremltools.ComputeUnit[units])
            return {name: read_plan(plan, name, units) for name in functions}
        except PlanUnavailable:
            raise
        except Exception as error:  # Core ML's own words come as RuntimeError and ValueError
            raise PlanUnavailable(f"{model.name}: {one_line(error)[:200]}") from error


def read_plan(plan: Any, function: str, units: str) -> Plan:
    """One function of a ``coremltools.models.compute_plan.MLComputePlan``.

    Raises PlanUnavailable when the plan does not have it.
    """
    program = plan.model_structure.program
    if program is None or function not in program.functions:
        raise PlanUnavailable(f"the plan has no function {function!r}")
    operations = [
        _planned(plan, operation)
        for operation in _operations(program.functions[function].block)
        if not _is_constant(operation)
    ]
    return Plan(function, units, tuple(operations))


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        for nested in operation.blocks:
            yield from _operations(nested)
        yield operation


def _is_constant(operation: Any) -> bool:
    kind = _kind(operation)
    return kind == "const" or kind.startswith("constexpr_")


def _kind(operation: Any) -> str:
    """The op without the version that Core ML puts before it ("ios18.conv")."""
    return str(operation.operator_name).rpartition(".")[2]


def _planned(plan: Any, operation: Any) -> PlannedOp:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    return PlannedOp(
        _kind(operation),
        operation.outputs[0].name if operation.outputs else "",
        "undetermined" if usage is None else _device(usage.preferred_compute_device),
        () if usage is None else tuple(map(_device, usage.supported_compute_devices)),
        None if cost is None else float(cost.weight),
    )


def _device(device: Any) -> Device:
    return _DEVICES.get(type(device).__name__, "undetermined")


def _version(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts)) or "of unknown version"
