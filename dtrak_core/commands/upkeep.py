"""Commands that look after jobs and the cache: list, show, stop, resume, forget, delete, verify."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import Any

import tyro

from dtrak_core import amounts, program, store
from dtrak_core.commands import answers, tables
from dtrak_core.commands.tables import Json, say
from dtrak_core.errors import JobError, SettingsError, StoreError
from dtrak_core.jobs import eviction, housekeeping, jobs, launch, processes


def jobs_list(json: Json = False) -> None:
    """List the jobs: running, waiting, ended."""
    columns = ("key", "state", "label", "done", "total", "unit", "message")
    say([dataclasses.asdict(job) for job in jobs.listing()], json, lambda rows: tables.table(rows, columns))


def jobs_show(key: tyro.conf.Positional[str], lines: int = 20, json: Json = False) -> None:
    """Show a job and the end of its log.

    Args:
        key: Key of the job.
        lines: Lines of the log.
    """
    if lines < 0:
        raise SettingsError(f"--lines is {lines}; give 0 or more.")
    try:
        job = jobs.job_of(key).model_dump(mode="json")
    except JobError:  # of another version of the app
        job = None
    values = dataclasses.asdict(jobs.state(key)) | {"job": job, "log": jobs.log_tail(key, lines)}
    say(values, json, _shown)


def _shown(values: dict[str, Any]) -> str:
    """Return a job as lines for people, the log last."""
    times = {name: amounts.moment(values[name]) for name in ("submitted", "started", "finished") if values[name]}
    left = {"seconds_left": amounts.duration(values["seconds_left"])} if values["seconds_left"] is not None else {}
    told = {name: values[name] for name in ("key", "label", "state", "message", "attempt", "position")}
    made = [f"{kind}/{key}" for kind, key in values["artifacts"]]
    count = f"{values['done']:,} of {values['total']:,} {values['unit']}"
    return f"{tables.facts(told | {'done': count} | left | times | {'made': made})}\n\n{values['log']}".rstrip()


def jobs_cancel(key: tyro.conf.Positional[str], json: Json = False) -> None:
    """Stop a waiting or running job; what it finished stays.

    Args:
        key: Key of the job.
    """
    with contextlib.suppress(JobError):  # one of another version of the app can be stopped too
        jobs.job_of(key)
    say({"key": key, "cancelled": jobs.cancel(key)}, json, tables.facts)


def jobs_resume(key: tyro.conf.Positional[str], json: Json = False) -> None:
    """Run an ended or interrupted job again, from what it had finished, and follow it.

    Args:
        key: Key of the job.
    """
    jobs.resume(key)
    made = answers.follow(key, jobs.state(key).label)
    say({"key": key, "state": "done", "artifacts": [f"{a.kind}/{a.key}" for a in made]}, json, tables.facts)


def jobs_forget(key: tyro.conf.Positional[str], json: Json = False) -> None:
    """Take an ended job off the list, with its log; what it made stays.

    Args:
        key: Key of the job.
    """
    with contextlib.suppress(JobError):  # one of another version of the app can be taken off too
        jobs.job_of(key)
    if (now := jobs.state(key)).active:
        stop = program.command(f"jobs cancel {key}")
        raise JobError(f"The job '{now.label}' has not ended, so it stays on the list. Stop it first with '{stop}'.")
    jobs.forget(key)
    say({"key": key, "forgotten": True}, json, tables.facts)


def engine_show(json: Json = False) -> None:
    """Say who does the work: this machine, or the workers of STUDIO_ENGINE (--engine) after trying them out."""
    rows = [{"worker": "this machine", "host": "", "python": "", "version": processes.code_version()}]
    if launch.address():
        from dtrak_core.engine import cluster  # which imports Dask

        with cluster.opened(launch.address()) as client:
            found = cluster.probe(client, launch.address())
        rows = [{"worker": who, **answer} for who, answer in found.items()]
    say(rows, json, lambda shown: tables.table(shown, ("worker", "host", "python", "version")))


def cache_list(kind: str = "", json: Json = False) -> None:
    """List what is stored, with sizes, and say in which folder.

    Args:
        kind: Only this kind of artifact.
    """

    def shown(rows: list[dict[str, Any]]) -> str:
        sized = [row | {"size": amounts.size(row["bytes"])} for row in rows]
        listed = tables.table(sized, ("kind", "key", "name", "size", "date", "shipped", "origin"))
        total = amounts.size(sum(row["bytes"] for row in rows))
        return f"{listed}\n{total} in {amounts.counted(len(rows), 'artifact')}, in {store.root()}".lstrip()

    say(housekeeping.stored(kind), json, shown)


def cache_delete(kind: tyro.conf.Positional[str], key: str = "", yes: bool = False, json: Json = False) -> None:
    """Delete one artifact, or all of a kind; never what ships, nor what a job needs.

    Args:
        kind: Kind of artifact, like features or samples.
        key: Key of the one to delete (default: all of this kind).
        yes: Do not ask.
    """
    if not yes:
        print(f"Delete {f'{kind}/{key}' if key else f'all {kind}'}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise SettingsError("Nothing was deleted. Answer y, or give --yes.")
    say(
        {"bytes_freed": housekeeping.deleted(kind, (key,) if key else ())},
        json,
        lambda v: f"{amounts.size(v['bytes_freed'])} freed",
    )


def cache_limit(amount: tyro.conf.Positional[str] = "", json: Json = False) -> None:
    """Show or set the cache's limit; above it, what has gone unread longest and can be computed again is deleted.

    Args:
        amount: Like 20GB, or `none` (default: only show it).
    """
    if amount:
        eviction.set_limit(eviction.bytes_of(amount))
    gone = eviction.evict() if amount else []
    used = housekeeping.own_bytes(housekeeping.stored())
    answer = {"limit": eviction.limit(), "bytes": used, "evicted": gone}

    def shown(values: dict[str, Any]) -> str:
        most = "no limit" if values["limit"] is None else f"limit {amounts.size(values['limit'])}"
        rows = [row | {"size": amounts.size(row["bytes"])} for row in values["evicted"]]
        listed = tables.table(rows, ("kind", "key", "size", "origin"))
        return f"{amounts.size(values['bytes'])} used, {most}\n{listed}".rstrip()

    say(answer, json, shown)


def cache_verify(kind: str = "", json: Json = False) -> None:
    """Check every stored file against its manifest; damaged artifacts are put aside.

    Args:
        kind: Only this kind of artifact.
    """
    damaged = housekeeping.verified(kind)
    say(damaged, json, lambda rows: tables.table(rows, ("kind", "key", "error")) or "All artifacts are whole.")
    if damaged:
        raise StoreError(f"{len(damaged)} damaged {'artifact was' if len(damaged) == 1 else 'artifacts were'} found.")
