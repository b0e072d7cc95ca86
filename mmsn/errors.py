"""Errors that the user can correct.

Commands print a ``UserError`` as one line and exit with status 2; every other exception is a bug
or a fault of the machine, and keeps its traceback. So code that detects a wrong value raises
``UserError``, and code that detects a broken invariant of its own does not.
"""

from __future__ import annotations


class UserError(ValueError):
    """A wrong value from outside; one line with the value, what is allowed and the fix.

    Line breaks become spaces, because values of damaged files may hold them.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(" ".join(str(message).splitlines()))


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that was asked for and does not exist.

    Raised where the code looks for a path that a user gave. A plain ``FileNotFoundError`` comes
    from a path that the code made itself, which is a bug.
    """
