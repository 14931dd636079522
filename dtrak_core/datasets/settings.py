"""Settings of a dataset: which pictures, at which size, which columns of their tables tell what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from dtrak_core.settings import Name, Settings

DatasetKind = Literal[
    "openmoji-people",
    "openmoji-roles",
    "emoji-schools",
    "cifar2",
    "cifar10",
    "celeba",
    "artbench2",
    "artbench5",
    "folder",
    "npz",
    "arrays",
]
Fact = Literal["file_name", "caption", "contributor", "label", "name", "family", "split"]  # what tables tell
Columns = tuple[tuple[Fact, str], ...]


class DatasetSettings(Settings):
    """Which pictures, at which size.

    `name` is what the user calls the dataset; for what is read from files (sources.py) or given as arrays (memory.py),
    `source_digest` is the digest of their contents, so that the same pictures are stored once, and others never taken
    for them. `columns` names the column of a folder's tables that tells a fact, where it is not the one of that name;
    an empty one means that no column does (the label is then that of the folder). Some of OpenMoji's portraits are
    equal by pixels (a bald man and a bald person, say): `equal` once takes the first of such alone.
    """

    kind: DatasetKind = "openmoji-people"
    resolution: int = Field(default=16, ge=8, le=512)
    name: Name = "openmoji-people"
    source_digest: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    on_broken: Literal["refuse", "skip"] = "refuse"
    columns: Columns = Field(default=(), exclude_if=lambda value: not value)
    equal: Literal["kept", "once"] = Field(default="kept", exclude_if=lambda value: value == "kept")

    @field_validator("columns")
    @classmethod
    def _in_order(cls, columns: Columns) -> Columns:
        facts = [fact for fact, _ in columns]
        if twice := [fact for fact in facts if facts.count(fact) > 1]:
            raise ValueError(f"{twice[0]} is given two columns; give it one")
        if ("file_name", "") in columns:
            raise ValueError("file_name needs a column, which names the picture of each row")
        return tuple(sorted(columns))

    @model_validator(mode="after")
    def _of_its_kind(self) -> DatasetSettings:
        if self.columns and self.kind != "folder":
            raise ValueError("columns are those of tables beside pictures in a folder or zip; leave them out")
        if self.equal == "once" and self.kind != "openmoji-people":
            raise ValueError(f"equal 'once' is for openmoji-people; leave it out for '{self.kind}'")
        return self
