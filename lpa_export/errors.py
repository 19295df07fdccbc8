"""The one exception and the one warning that a user is meant to read.

Everything a user can cause (a wrong path, a corrupt file, a value out of bounds) is raised as
:class:`LpaError`. The commands print it as one line and exit with code 2; any other exception
is a bug of ours. What is taken all the same, but may not be what the user thinks it is, warns
with :class:`LpaWarning`: the commands print that as one line too, and go on.
"""

__all__ = ["LpaError", "LpaWarning"]


class LpaError(Exception):
    """A problem the user can fix: what was expected, what was found, what to do, on ONE line.

    Line breaks in the message (often brought in by another library's text) become spaces, so
    that a caller can always print it as a single line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class LpaWarning(UserWarning):
    """Something the user should know of a result that is given all the same, in one line."""
