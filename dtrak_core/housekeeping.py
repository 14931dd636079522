"""The cache as a whole: what is there and how large, deleting it safely, checking it."""

from __future__ import annotations

from typing import Any

from dtrak_core import jobs, store
from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.settings import FORMATS


def stored(kind: str = "") -> list[dict[str, Any]]:
    """Return what the cache holds, one row an artifact: kind, key, name, bytes, date, whether it ships."""
    return [
        {
            "kind": a.kind,
            "key": a.key,
            "name": str(a.manifest.get("name", "")),
            "bytes": a.manifest["bytes"],
            "date": a.manifest["date"],
            "shipped": a.shipped,
        }
        for each in ([_kind(kind)] if kind else FORMATS)
        for a in store.listing(each)
    ]


def deleted(kind: str, key: str) -> int:
    """Delete one artifact, or all of a kind where the key is empty; return the bytes freed.

    Raises:
        NotFoundError: If there is no such artifact.
        StoreError: If it ships with the project, or a waiting or running job needs it.
    """
    doomed = [a for a in store.listing(_kind(kind)) if key in ("", a.key)]
    if key and not doomed:
        raise NotFoundError(
            f"Nothing is stored as {kind}/{key}. List the cache with 'python -m dtrak_core cache list'."
        )
    if key and doomed[0].shipped:
        raise StoreError(f"{kind}/{key} ships with the project and is not deleted.")
    for artifact in doomed:
        names = {artifact.key, str(artifact.manifest.get("digest", ""))} - {""}
        names |= {step["digest"] for step in artifact.manifest.get("steps", [])}
        if (job := jobs.needed_by(names)) is not None:
            raise StoreError(f"{kind}/{artifact.key} is needed by the job '{job.label}' ({job.key}). Cancel it first.")
    return sum(store.delete(kind, artifact.key) for artifact in doomed if not artifact.shipped)


def verified(kind: str = "") -> list[dict[str, str]]:
    """Check every file of every artifact against its manifest; return those that differ, which are put aside."""
    damaged = []
    for each in [_kind(kind)] if kind else FORMATS:
        for artifact in store.listing(each):
            try:
                artifact.verify()
            except StoreError as error:
                damaged.append({"kind": artifact.kind, "key": artifact.key, "error": str(error)})
    return damaged


def _kind(kind: str) -> str:
    if kind not in FORMATS:
        raise NotFoundError(f"'{kind}' is not a kind of artifact. There are: {', '.join(FORMATS)}.")
    return kind
