"""Scores that the user brings: stored with what they are of, and from then on a method like any other. No torch.

own:<name>          the newest scores of that name, as users write it
own:<name>@<key>    these very scores, which is the method's id: what is computed from them is stored under it, so that
                    nothing is answered with scores of before
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import Field

from dtrak_core import program, store
from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, NotFoundError, words_of
from dtrak_core.models.targets import Target
from dtrak_core.settings import Digest, Name, Settings, build, digest_of, key_of
from dtrak_core.store import Artifact

KIND, PREFIX = "own-scores", "own:"
SMALLEST, LARGEST = 1e-100, 1e100  # of the largest score by size
MethodT = TypeVar("MethodT")


class OwnScoreSettings(Settings):
    """Which scores: their name, the dataset and targets (id, digest of pixels) that they are of, their own digest."""

    name: Name
    dataset: Digest
    targets: tuple[tuple[str, Digest], ...] = Field(min_length=1)
    values: Digest


@dataclass(frozen=True)
class Named:
    """The parts of a method's id."""

    name: str
    key: str

    @property
    def id(self) -> str:
        """Return the id that names these very scores."""
        return f"{PREFIX}{self.name}@{self.key}"


class Listed(dict[str, MethodT]):
    """The methods of a table, and after them the scores that users brought, which come and go.

    Any id of such scores gives a method, also of scores that are gone, so that what was made of them can be shown. The
    id without a key gives the newest of the name, whose own id has one.
    """

    def __init__(self, table: Mapping[str, MethodT], brought: Callable[[Named], MethodT]) -> None:
        super().__init__(table)
        self.brought = brought

    def __missing__(self, name: str) -> MethodT:
        if not name.startswith(PREFIX):
            raise KeyError(name)
        return self.brought(parse(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith(PREFIX)

    def get(self, name: Any, default: Any = None) -> Any:
        """Return the method of an id, brought ones too, else the default."""
        return self[name] if name in self else default

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from (named.id for named in every())

    def values(self) -> Any:
        """Return the methods, in order."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Return ids and methods, in order."""
        return [(name, self[name]) for name in self]


def add(name: str, scores: Any, targets: Sequence[Target], dataset: Dataset) -> Artifact:
    """Store scores as the newest of a name.

    Args:
        name: What they are called: lower-case letters, digits, '.', '_' and '-', at most 40.
        scores: Finite numbers, shape (M, N): row by target, column by training index; positive: helps.
        targets: M targets, each once.
        dataset: The training set of N pictures.

    Returns:
        Artifact of kind `own-scores`: scores.npy (M, N), float64.

    Raises:
        DataError: If scores have another shape or type, or a value is not finite or out of all size, or a target stands
            there twice.
        SettingsError: If the name cannot be used.
    """
    expected = (len(targets), len(dataset.train.rows))
    is_tensor = hasattr(scores, "detach")
    try:
        values = np.asarray(scores.detach().cpu() if is_tensor else scores)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths; types that numpy does not know
        what = "Convert them with scores.float()" if is_tensor else "Give each row as many numbers"
        raise DataError(
            f"scores cannot be read as an array ({words_of(error)}); expected numbers of the shape {expected}. {what}."
        ) from None
    if values.shape != expected:
        raise DataError(
            f"scores have the shape {values.shape}; for {counted(expected[0], 'target')} and the {expected[1]:,} "
            f"training pictures of '{dataset.name}' expected {expected}."
        )
    if values.dtype.kind not in "biuf":
        raise DataError(f"scores are of type {values.dtype}; expected numbers. Convert them.")
    values = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(f"scores[{row}, {column}] is {values[row, column]}; every score must be finite. Replace it.")
    most = float(np.abs(values).max())
    if most and not SMALLEST <= most <= LARGEST:  # sums and squares of them are no numbers any more
        raise DataError(f"scores are as large as {most:g}; expected a size of {SMALLEST:g} to {LARGEST:g}. Scale them.")
    known = [(target.id, target.pixels) for target in targets]
    if twice := next((one for one in known if known.count(one) > 1), None):
        raise DataError(f"{twice[0]} is there more than once among the targets. Give each target one row.")
    told = {"name": name, "dataset": dataset.digest, "targets": tuple(known)}
    settings = build(OwnScoreSettings, **told, values=digest_of(str(values.shape), values.tobytes()))
    key = key_of(KIND, settings)
    with store.computing(KIND, key) as found:
        if found is not None:  # given again, and meant by its name again
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
            store.write_json(found.path / store.MANIFEST, {**found.manifest, "date": now})
            return store.get(KIND, key)
        store.write_array(store.partial(KIND, key) / "scores.npy", values)
        return store.publish(KIND, key, settings, name=name)


def every() -> list[Named]:
    """Return the newest scores of each name and dataset, in order of names."""
    found: dict[tuple[str, str], Artifact] = {}
    for artifact in sorted(store.listing(KIND), key=_age):
        found[artifact.settings["name"], artifact.settings["dataset"]] = artifact
    return [Named(name, found[name, of].key) for name, of in sorted(found)]


def newest(name: str, dataset: str) -> Named | None:
    """Return the newest scores of a name that are of a dataset (its digest), or None where there are none."""
    stored = [a for a in store.listing(KIND) if (a.settings["name"], a.settings["dataset"]) == (name, dataset)]
    return Named(name, max(stored, key=_age).key) if stored else None


def parse(method: str) -> Named:
    """Return what a method's id names.

    Raises:
        NotFoundError: If it names no key and no scores of its name are stored; the message lists those there are.
    """
    name, _, key = method.removeprefix(PREFIX).partition("@")
    if key:
        return Named(name, key)
    own = sorted((a for a in store.listing(KIND) if a.settings["name"] == name), key=_age)
    if not own:
        names = ", ".join(dict.fromkeys(f"{PREFIX}{one.name}" for one in every())) or "none yet"
        raise NotFoundError(
            f"There are no own scores '{name}'. There are: {names}. Add some with dtrak_core.api.add_scores "
            f"or '{program.command('scores add')}'."
        )
    return Named(name, own[-1].key)


def opened(method: str) -> Artifact:
    """Return the stored scores of a method.

    Raises:
        NotFoundError: If they are not stored any more.
    """
    named = parse(method)
    found = store.find(KIND, named.key)
    if found is None:
        raise NotFoundError(_gone(named.name))
    return found


def _gone(name: str) -> str:
    return f"The own scores '{name}' are not stored any more. Add them again."


def refusal(method: str, dataset: str, targets: Sequence[Target]) -> str:
    """Say why own scores are not of a dataset (its digest, empty where unknown) or of a target; nothing if they are."""
    name = parse(method).name
    if (artifact := store.find(KIND, parse(method).key)) is None:
        return _gone(name)
    settings = artifact.settings
    if dataset not in ("", settings["dataset"]):
        there = newest(name, dataset)
        return (
            f"The own scores '{name}' are of the training set with digest {settings['dataset']}, not of this one "
            f"({dataset}). {f'Give those of this one, {there.id}' if there else 'Add scores of this one'}."
        )
    known = {tuple(one) for one in settings["targets"]}
    lacking = next((one for one in targets if (one.id, one.pixels) not in known), None)
    if lacking is None:
        return ""
    other = "another picture of that name" if any(lacking.id == name for name, _ in known) else ""
    names = ", ".join(name for name, _ in settings["targets"][:8]) + (" ..." if len(known) > 8 else "")
    row = "your picture" if lacking.id.startswith("upload:") else lacking.id
    return f"The own scores '{name}' have no row for {row}, but for {other or names}. Add scores of it."


def rows(method: str, targets: Sequence[Target]) -> np.ndarray:
    """Return the scores of targets that `refusal` lets pass, shape (M, N)."""
    artifact = opened(method)
    place = {tuple(one): number for number, one in enumerate(artifact.settings["targets"])}
    found: np.ndarray = np.asarray(artifact.array("scores.npy"))[[place[one.id, one.pixels] for one in targets]]
    return found


def targets_of(method: str) -> set[tuple[str, str]]:
    """Return ids and pixels' digests of the targets that own scores have rows for; none where they are gone."""
    artifact = store.find(KIND, parse(method).key)
    return set() if artifact is None else {(name, pixels) for name, pixels in artifact.settings["targets"]}


def _age(artifact: Artifact) -> tuple[int, str]:
    return (artifact.path / store.MANIFEST).stat().st_mtime_ns, artifact.key
