"""How work of the library is done: in this process or by the engine, with a bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dtrak_core import program, store
from dtrak_core.engine import work
from dtrak_core.errors import JobError
from dtrak_core.jobs import jobs
from dtrak_core.progress import Progress
from dtrak_core.store import Artifact


@contextmanager
def bar(label: str, shown: bool) -> Iterator[Progress]:
    """Give a function that is told how far work is, and draws that as a bar on stderr where it is `shown`."""
    with tqdm(desc=label, disable=not shown, leave=False, mininterval=0.5) as drawn:

        def on_progress(done: int, total: int, unit: str, message: str) -> None:
            drawn.total, drawn.unit = total or None, f" {unit}" if unit else "it"
            drawn.set_postfix_str(message, refresh=False)
            drawn.update(done - drawn.n)

        yield on_progress


def done(job: jobs.Job, label: str, engine: bool, shown: bool) -> list[Artifact]:
    """Do a job; return the artifacts that it asked for.

    Args:
        job: What to do.
        label: What the user is told it is.
        engine: Whether the engine does it, whose job goes on when this process ends; else it is done here.
        shown: Whether a bar is drawn.

    Raises:
        JobError: If the engine's job failed, was cancelled or lost its worker.
        StudioError: Whatever the work itself raises, where it is done here.
    """
    with bar(label, shown) as on_progress:
        if not engine:
            return work.run(job, on_progress)
        key, _ = jobs.submit(job, label)
        end = jobs.wait(key, lambda now: on_progress(now.done, now.total, now.unit, now.message))
    if end.state != "done":
        raise JobError(f"{label}: {end.state}. {end.message} Its log: {program.command(f'jobs show {key}')}.")
    return [store.get(kind, name) for kind, name in end.artifacts]
