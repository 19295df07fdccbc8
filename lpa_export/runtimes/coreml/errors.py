"""What goes wrong with a Core ML program: one line each, for the report."""

from lpa_export.runtimes import ArtifactError

__all__ = ["InputError", "PackageError", "UnsupportedOp", "one_line"]


class PackageError(ArtifactError):
    """The package cannot be used: what was expected and what was found, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UnsupportedOp(PackageError):
    """The program holds an operation that the evaluator cannot compute; the message names it."""


class InputError(PackageError):
    """The values handed to a function are not those that it declares."""


def one_line(text: object) -> str:
    """A text (of an exception, say) with its line breaks as spaces."""
    return " ".join(str(text).split())
