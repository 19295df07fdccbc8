"""The targets this package can validate: a table, so that a further target is one row.

Values are "module:name", resolved on use: no runtime is imported before it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.runtimes import Runner

__all__ = ["TARGETS", "Target", "resolve", "target_named"]


@dataclass(frozen=True)
class Target:
    """What differs between targets: the runtime that executes, and the checks of its own."""

    runner: str
    checks: Mapping[str, str]
    """Check name -> "module:name", in place of or beside the checks that all targets share."""

    def runner_class(self) -> Callable[..., "Runner"]:
        """The runner; called with an open bundle and ``threads``.

        Raises LpaError when the runtime it needs is not installed.
        """
        try:
            return resolve(self.runner)
        except ImportError as error:
            raise LpaError(
                f"the runtime of this target cannot be imported ({error}); install it"
            ) from error


TARGETS: dict[str, Target] = {
    "onnx": Target(
        runner="lpa_export.runtimes.onnx:OnnxRunner",
        checks={"ops": "lpa_validate.checks.onnx_ops:check_ops"},
    ),
    "coreml": Target(
        runner="lpa_export.runtimes.coreml.runner:CoremlRunner",
        checks={
            "ops": "lpa_validate.checks.coreml_ops:check_ops",
            "compute-plan": "lpa_validate.checks.coreml_plan:check_compute_plan",
            "precision": "lpa_validate.checks.precision:check_precision",
            "range": "lpa_validate.checks.ranges:check_range",
        },
    ),
    "executorch": Target(
        runner="lpa_export.runtimes.executorch.runner:ExecutorchRunner",
        checks={
            "ops": "lpa_validate.checks.executorch_ops:check_ops",
            "replay": "lpa_validate.checks.replay:check_replay",
        },
    ),
}


def target_named(name: str) -> Target:
    """The target of that name. Raises LpaError naming the known ones."""
    if name not in TARGETS:
        raise LpaError(f"unknown target {name!r}; known targets: {', '.join(sorted(TARGETS))}")
    return TARGETS[name]


def resolve(path: str) -> Any:
    """The object at "module:name"."""
    module, name = path.split(":")
    return getattr(import_module(module), name)
