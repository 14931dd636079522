"""The errors that the core raises and the pages and the command line print.

Every message has up to three parts: what is wrong, with the value; what was
expected; what to do. Paths are given relative to the project.
"""

from __future__ import annotations


class StudioError(Exception):
    """Base of everything a user may be shown as a sentence."""


class SettingsError(StudioError):
    """A setting has a value that cannot work."""


class NotFoundError(StudioError):
    """Something named by the user does not exist; the message lists what does."""


class DataError(StudioError):
    """Pictures or their tables cannot be read as asked."""


class StoreError(StudioError):
    """A stored artifact is damaged or does not match its manifest."""


class JobError(StudioError):
    """A job could not be started, followed or finished."""


class EngineError(StudioError):
    """The workers that are to do the work cannot be reached, or cannot do it."""


class Cancelled(StudioError):
    """The user asked a running job to stop. What was finished stays."""


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is that memory ran out: torch has a class of its own for CUDA's alone."""
    if isinstance(error, MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "out of memory" in said or "can't allocate memory" in said
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error of others, without the point at its end."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".: ")


def words_of(error: Exception) -> str:
    """Return what a library's error says, short enough to stand in a sentence."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return shortened(text, 120)


def shortened(text: str, most: int = 80) -> str:
    """Return a value that a user gave, short enough to stand in a sentence."""
    return text if len(text) <= most else f"{text[:most]} ..."
