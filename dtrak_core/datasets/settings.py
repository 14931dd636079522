"""Settings of a dataset: which pictures, at which size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dtrak_core.settings import Settings

DatasetKind = Literal[
    "openmoji-people",
    "openmoji-roles",
    "cifar2",
    "cifar10",
    "celeba",
    "artbench2",
    "artbench5",
    "folder",
    "npz",
    "arrays",
]


class DatasetSettings(Settings):
    """Which pictures, at which size.

    `name` is what the user calls the dataset; for what is read from files (sources.py) or given as arrays (memory.py),
    `source_digest` is the digest of their contents, so that the same pictures are stored once, and others never taken
    for them.
    """

    kind: DatasetKind = "openmoji-people"
    resolution: int = Field(default=16, ge=8, le=512)
    name: str = Field(default="openmoji-people", pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")
    source_digest: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    on_broken: Literal["refuse", "skip"] = "refuse"
