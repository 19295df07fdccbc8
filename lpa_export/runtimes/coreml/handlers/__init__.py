"""What computes each kind of operation: one table per module, all of them merged here."""

from importlib import import_module

from lpa_export.runtimes.coreml.call import Handler

__all__ = ["HANDLERS"]

_MODULES = (
    "activation attention blocks constexpr convolution creation elementwise gather linear "
    "lists normalisation padding pooling random recurrent reduction resize sampling scan scatter "
    "select shape slicing"
).split()

HANDLERS: dict[str, Handler] = {
    op_type: handler
    for name in _MODULES
    for op_type, handler in import_module(f"{__name__}.{name}").TABLE.items()
}
"""Handler by operation type, for all versions of the operation since iOS 15."""
