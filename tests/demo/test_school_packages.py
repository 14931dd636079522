"""Packages of the four schools: what is drawn from them, which they have to be, and how subjects are parted."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core.datasets import emoji_schools
from dtrak_core.demo import school_packages, school_pictures
from dtrak_core.demo.school_packages import Package, Subject
from dtrak_core.errors import DataError

RED = '<path fill="#f00" d="M0 0h8v4H0z"/>'


def packed(folder: Path, package: Package, **members: Any) -> Package:
    """Write a package with these JSON files, and return it with its own digest."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / package.file, "w:gz") as archive:
        for name, value in members.items():
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(f"package/{name.replace('__', '/')}.json")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    digest = hashlib.sha512((folder / package.file).read_bytes()).digest()
    return replace(package, sha512=base64.b64encode(digest).decode())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with packages of two subjects, the second not drawn by fluent, the first wide there."""
    place, known = tmp_path / "packages", {}
    for school, package in school_packages.SCHOOLS.items():
        icons = {"fox": {"body": RED} | ({"width": 8, "height": 4} if school == "fluent" else {}), "owl": {"body": RED}}
        codes = {"1f98a": "fox"} | ({"1f989-fe0f": "owl"} if school != "fluent" else {})
        known[school] = packed(place, package, icons={"width": 8, "height": 8, "icons": icons}, chars=codes)
    monkeypatch.setattr(school_packages, "SCHOOLS", known)
    facts = {"subgroups": "animal-mammal", "group": "animals-nature", "skintone": ""}
    listed = [{"hexcode": code, "annotation": name, **facts} for code, name in (("1F98A", "fox"), ("1F989", "owl"))]
    listed.append(listed[0] | {"hexcode": "1F98A", "skintone": 2})
    monkeypatch.setattr(school_packages, "NAMES", packed(place, school_packages.NAMES, data__openmoji=listed))
    monkeypatch.setattr(school_packages, "SUBJECTS", 1)
    return place


def test_subjects_are_what_all_four_drew_and_wide_drawings_stand_in_the_middle(folder: Path) -> None:
    subjects = school_packages.subjects(folder)
    assert subjects == [Subject("1F98A", "fox", "animals-nature", "animal-mammal")]
    square, wide = (
        school_packages.drawn(subjects, school, folder, 8, lambda d, t: None)[0] for school in ("noto", "fluent")
    )
    red = (np.arange(8) < 4)[:, None] & np.ones(8, bool)
    assert np.array_equal((square == (255, 0, 0)).all(-1), red)
    assert np.array_equal((wide == (255, 0, 0)).all(-1), np.roll(red, 2, axis=0))
    (openmoji,) = school_packages.drawn(subjects, "openmoji", folder, 32, lambda d, t: None)
    assert openmoji.shape == (32, 32, 3)
    assert len(np.unique(openmoji.reshape(-1, 3), axis=0)) > 20


def test_another_file_and_no_network_are_refused_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noto = school_packages.SCHOOLS["noto"]
    monkeypatch.setattr(school_packages, "REGISTRY", "http://127.0.0.1:9")
    (folder / noto.file).write_bytes(b"another")
    with pytest.raises(DataError, match=r"is not @iconify-json/noto 1.2.9: .* Delete it and build again"):
        school_packages.subjects(folder)
    (folder / noto.file).unlink()
    with pytest.raises(DataError, match=r"cannot be fetched from npm .* Put noto-1.2.9.tgz into"):
        school_packages.subjects(folder)
    assert not (folder / noto.file).exists()


def test_the_base_has_seen_no_picture_that_ships() -> None:
    shipped = {row["family"] for row in emoji_schools.facts()}
    subjects = [Subject(f"{i:X}", "", "", "") for i in range(school_packages.SUBJECTS)]
    seen, new = school_pictures.parted(subjects)
    assert (len(seen), len(new), len(shipped)) == (1110, 476, 476)
    assert not {one.hexcode for one in seen} & {one.hexcode for one in new}
