"""Every operation that coremltools knows is computed, or left out for a stated reason."""

from lpa_export.runtimes.coreml.handlers import HANDLERS
from lpa_export.runtimes.coreml.handlers.unsupported import UNSUPPORTED
from lpa_export.runtimes.coreml.plan import CONTROL

# Put into the program as values, never computed step by step.
CONSTANT = {"const"}


def known() -> set[str]:
    """The operations of iOS15 to iOS18."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return set(SSAOpRegistry.core_ops)


def test_no_operation_is_forgotten() -> None:
    assert known() - set(HANDLERS) - set(UNSUPPORTED) - CONTROL - CONSTANT == set()


def test_what_is_called_unsupported_is_known_and_not_computed() -> None:
    assert set(UNSUPPORTED) <= known()
    assert not set(UNSUPPORTED) & (set(HANDLERS) | CONTROL)


def test_reasons_are_one_line() -> None:
    assert all(reason and "\n" not in reason for reason in UNSUPPORTED.values())


def test_handlers_are_only_for_operations_that_exist() -> None:
    assert set(HANDLERS) <= known()
