"""Every error that a caller may want to catch: input that cannot be used, a training that fails,
and a stop by the user."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that names it and the way
    out."""


class Interrupted(BaseException):
    """The user stopped a command (Ctrl-C, SIGTERM); the message says what is kept and how to go
    on."""

    @classmethod
    def is_behind(cls, error: BaseException | None) -> bool:
        """Whether an error is one, or what compiled code made of one that came while it ran (a
        SystemError)."""
        while error is not None and not isinstance(error, cls):
            error = error.__cause__ or error.__context__
        return error is not None


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and what is kept."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The user asked the training to stop; its checkpoint is written."""
