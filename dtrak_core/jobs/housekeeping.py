"""The cache as a whole: what is there, how large, how old and what made it; deleting it safely, checking it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtrak_core import program, store
from dtrak_core.datasets import catalogue
from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.jobs import incoming, jobs
from dtrak_core.jobs.jobs import JobState
from dtrak_core.kinds import KINDS
from dtrak_core.models import checkpoints
from dtrak_core.store import Artifact

UNFINISHED = "unfinished"
LEFT = {  # what may lie in the cache beside artifacts, by the end of its name: what it is called, and why it is there
    ".partial": (UNFINISHED, "work that goes on or was stopped"),
    ".damaged": ("damaged", "put aside, since it was not what its manifest says"),
    ".deleted": ("deleted", "left by a deletion that was interrupted"),
}
Live = Sequence[tuple[JobState, set[str]]]


def stored(kind: str = "") -> list[dict[str, Any]]:
    """Return what the cache holds, one row an artifact.

    Returns:
        Rows of kind, key, name, bytes, date (made), used (timestamp of the last reading), origin (what made it,
        in words), shipped. What no answer is read from stands among them: what an older version made and this one
        makes otherwise has the name `outdated`; unfinished work, what was put aside as damaged and what a deletion
        left have the names `unfinished`, `damaged` and `deleted` and no date, and the latter two the end of their
        folder's name in their key.
    """
    rows = []
    for each in [_kind(kind)] if kind else KINDS:
        beside = [place for place in store.entries(store.root() / each) if place.suffix in LEFT]
        found = [_row(artifact) for artifact in store.listing(each)]
        found += [_row(artifact, "outdated") for artifact in store.outdated(each)]
        found += [_lying(each, place) for place in beside]
        rows += [row for row in found if row is not None]
    return rows


def own_bytes(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how much of `stored` is the user's: what ships with the project does not count."""
    return sum(row["bytes"] for row in rows if not row["shipped"])


def kinds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a kind that is there: kind, about, entries, bytes, used (the last reading of any)."""
    found = []
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        if own:
            total, used = sum(row["bytes"] for row in own), max(row["used"] for row in own)
            found.append({"kind": kind, "about": KINDS[kind].about, "entries": len(own), "bytes": total, "used": used})
    return found


def deleted(kind: str, keys: Sequence[str] = ()) -> int:
    """Delete artifacts of a kind with their unfinished work, or all of it without keys; return the bytes freed.

    What ships with the project stays where all are deleted.

    Raises:
        NotFoundError: If there is no such artifact.
        StoreError: If one ships with the project, or a waiting, running or interrupted job needs it, or it is the base
            of stored LoRA weights; then nothing is deleted.
    """
    rows = {row["key"]: row for row in stored(_kind(kind))}
    for key in keys:
        if key not in rows:
            raise NotFoundError(
                f"Nothing is stored as {kind}/{key}. List the cache with '{program.command('cache list')}'."
            )
        if rows[key]["shipped"]:
            raise StoreError(f"{kind}/{key} ships with the project and is not deleted.")
    doomed, live = [key for key, row in rows.items() if key in keys or not (keys or row["shipped"])], jobs.live()
    if kind == "bases":
        _refuse_needed_bases(doomed)
    for key in doomed:
        if (job := needed_by(kind, key, live)) is not None:
            raise StoreError(f"{kind}/{key} is needed by the job '{job.label}' ({job.key}). Cancel it first.")
    if kind == "checkpoints":  # names of what is gone name nothing
        doomed_names = [one.key for key in doomed for one in checkpoints.names_of(key)]
        return sum(store.delete(kind, key) for key in doomed) + sum(store.delete("names", key) for key in doomed_names)
    return sum(store.delete(kind, key) for key in doomed)


def needed_by(kind: str, key: str, live: Live) -> JobState | None:
    """Return one of these jobs (`jobs.live`) that needs an artifact, or may come to need it, None if none does."""
    if kind == "bases":  # any job may be about LoRA weights of it
        return next((job for job, _ in live), None)
    names = {key}
    artifact = None if Path(key).suffix in LEFT else store.find(kind, key)
    if artifact is not None:
        names |= {str(artifact.manifest.get("digest", ""))} - {""}
        if kind == "datasets":
            names |= {catalogue.identity(artifact)}
        if "steps" in artifact.manifest:
            names |= {one.digest for one in checkpoints.of_run(artifact)}
        if KINDS[kind].read_by_many:
            names |= set(re.findall(r"\b[0-9a-f]{16}\b", str(artifact.settings)))
    elif KINDS[kind].read_by_many and store.begun(kind, key):  # unfinished, of which nothing is written down yet
        return next((job for job, _ in live), None)
    return next((job for job, reads in live if reads & names), None)


def _refuse_needed_bases(doomed: Sequence[str]) -> None:
    """Refuse to delete the last note of a base while LoRA weights of it are stored, which are nothing without it."""
    noted = [(artifact.key, artifact.settings["digest"]) for artifact in store.listing("bases")]
    lost = {digest for key, digest in noted} - {digest for key, digest in noted if key not in doomed}
    for run in [*store.listing("checkpoints"), *store.listing("retrained")]:
        if run.manifest.get("base") in lost:
            name = run.manifest.get("name", run.key)
            raise StoreError(f"The LoRA weights '{name}' ({run.kind}/{run.key}) need this base. Delete them first.")


def verified(kind: str = "") -> list[dict[str, str]]:
    """Check every file of every artifact against its manifest; return those that differ, which are put aside."""
    damaged = []
    for each in [_kind(kind)] if kind else KINDS:
        for place in store.entries(store.root() / each):
            if place.suffix or store.find(each, place.name) is not None or place.exists():
                continue  # sound, outdated, or none of the cache's
            if place.with_name(f"{place.name}.damaged").exists():
                error = f"Stored artifact cache/{each}/{place.name} is damaged: its manifest cannot be read. "
                damaged.append({"kind": each, "key": place.name, "error": f"{error}It was put aside."})
        for artifact in store.listing(each):
            try:
                artifact.verify()
            except StoreError as error:
                damaged.append({"kind": artifact.kind, "key": artifact.key, "error": str(error)})
    return damaged


def _row(artifact: Artifact, name: str = "") -> dict[str, Any] | None:
    """Return the row of an artifact, None where it has gone."""
    try:
        used = artifact.used
    except FileNotFoundError:  # it was deleted in this instant
        return None
    return {
        "kind": artifact.kind,
        "key": artifact.key,
        "name": name or str(artifact.manifest.get("name", "")),
        "bytes": artifact.manifest["bytes"],
        "date": artifact.manifest["date"],
        "used": used,
        "origin": KINDS[artifact.kind].made_by(artifact.settings),
        "shipped": artifact.shipped,
    }


def _lying(kind: str, place: Path) -> dict[str, Any] | None:
    """Return the row of what is no artifact, a folder or a file in the place of one; None where it has gone."""
    (name, about), key = LEFT[place.suffix], place.name.removesuffix(".partial")
    try:
        size, used = sum(p.stat().st_size for p in (place, *place.rglob("*")) if p.is_file()), place.stat().st_mtime
    except FileNotFoundError:  # it was finished or deleted in this instant
        return None
    if kind == incoming.KIND:
        held = store.entries(place)
        name, about = (held[0].name if held else name), "uploaded in the browser"
    facts = {"kind": kind, "key": key, "name": name, "bytes": size}
    return facts | {"date": "", "used": used, "origin": about, "shipped": False}


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise NotFoundError(f"'{kind}' is not a kind of artifact. There are: {', '.join(KINDS)}.")
    return kind
