"""What a compute plan says, as plain data: for each operation its device and share of the cost."""

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Device", "Plan", "PlannedOp"]

Device = Literal["neural engine", "gpu", "cpu", "undetermined"]


@dataclass(frozen=True)
class PlannedOp:
    """One operation: the device it is meant for, those that could take it.

    ``cost`` is its estimated share of the function's, 0 to 1; None where Core ML gives none.
    """

    op: str
    output: str
    device: Device
    supported: tuple[Device, ...]
    cost: float | None


@dataclass(frozen=True)
class Plan:
    """One function on the device that made the plan, allowed the compute units ``units``."""

    function: str
    units: str
    ops: tuple[PlannedOp, ...]

    @property
    def devices(self) -> dict[str, dict[str, float]]:
        """Device -> its number of operations and the sum of their cost."""
        found: dict[str, dict[str, float]] = {}
        for op in self.ops:
            share = found.setdefault(op.device, {"ops": 0, "cost": 0.0})
            share["ops"] += 1
            share["cost"] += op.cost or 0.0
        return found

    def to_json(self) -> dict[str, Any]:
        return {"function": self.function, "units": self.units, "devices": self.devices}
