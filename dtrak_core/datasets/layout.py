"""How a folder of pictures is laid out: wrappers, train and test folders, class folders, repeat counts of kohya.

    wrapper/.../train/cat/0.png        a single folder around everything is looked through
    train/cat/0.png, test/cat/1.png    test and validation pictures are held out, the labels are the classes
    train/cat/0.png, test/images/1.png the same without labels of the test pictures, where no class is called "images"
    cat/train/0.png, cat/test/1.png    the same, the other way round
    10_sks painting/0.png              kohya: ten repeats of "sks painting"; the label is without the count

Folders are taken for train and test only where all folders of their level are named so and one of them is to train
on, or where both hold the same classes: a class that is called "test" beside "cat" is a class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dtrak_core.errors import DataError

TRAIN, HELD_OUT = "train", "held-out"
SIDES = dict.fromkeys(("train", "training", "trn"), TRAIN) | dict.fromkeys(
    ("test", "testing", "tst", "val", "valid", "validation", "eval", "evaluation", "dev", "holdout", "heldout"),
    HELD_OUT,
)
GENERIC = (  # folders that say that pictures are in them, not of what
    "images", "image", "imgs", "img", "pictures", "pics", "photos", "data", "dataset", "set", "split", "raw", "all",
    "jpg", "jpeg", "png", "files",
)  # fmt: skip
_WORDS = re.compile(r"(?i:held[-_ ]out)|[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of train, train2017, seg_train, trainA
_REPEATS = re.compile(r"(?!(?:19|20)\d\d_)\d+_(?=.*[^\W\d_])")  # of kohya; not the years 1900 to 2099


@dataclass(frozen=True)
class Place:
    """Where a picture belongs: its label, and its side (`train`, `held-out`), empty where the folder names none."""

    label: str
    side: str = ""


@dataclass(frozen=True)
class Layout:
    """The place of each picture by its name, those that belong to no side, and what was assumed."""

    places: dict[str, Place]
    beside: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of(names: Sequence[str], source_name: str) -> Layout:
    """Read the layout off the pictures' paths below the source.

    Raises:
        DataError: If there are several folders to hold out and none to train on.
    """
    rest = {name: PurePosixPath(name).parts[:-1] for name in names}
    sides: dict[str, str] = {}
    beside: list[str] = []
    notes: list[str] = []
    while True:
        first = {parts[0] for parts in rest.values() if parts}
        flat = [name for name, parts in rest.items() if not parts]
        if len(first) == 1 and not flat and _is_wrapper(rest.values()):
            (wrapper,) = first
            if side_of(wrapper) == HELD_OUT and not sides:
                notes.append(f"'{wrapper}' is the only folder of pictures: they are trained on.")
            rest = {name: parts[1:] for name, parts in rest.items()}
        elif not sides and (_are_sides(first) or _share_classes(rest.values())):
            beside = [name for name, parts in rest.items() if not parts or not side_of(parts[0])]
            sides, rest = _parted({name: parts for name, parts in rest.items() if name not in beside}, 0)
        elif sides and not flat and all(side_of(parts[0]) == sides[name] for name, parts in rest.items()):
            rest = {name: parts[1:] for name, parts in rest.items()}  # some archives repeat the level
        elif sides and (wrapped := _wrapped(rest, sides)):
            rest = {name: parts[1:] if name in wrapped else parts for name, parts in rest.items()}
        else:
            break
    if not sides and rest and all(len(parts) > 1 for parts in rest.values()):
        if _are_sides({parts[1] for parts in rest.values()}):
            sides, rest = _parted(rest, 1)
        elif all(_REPEATS.match(parts[1]) for parts in rest.values()):
            rest = {name: parts[1:] for name, parts in rest.items()}  # below kohya's img and reg
    unlabelled = sum(side == HELD_OUT and not rest[name] for name, side in sides.items())
    if unlabelled and any(rest[name] for name, side in sides.items() if side == TRAIN):
        which = "" if unlabelled == list(sides.values()).count(HELD_OUT) else f"{unlabelled:,} of "
        notes.append(f"By their folders, {which}the pictures to hold out have no labels.")
    if not sides:
        notes += _doubtful({parts[0] for parts in rest.values() if parts}, source_name)
    places = {
        name: Place(without_repeats(parts[0]) if parts else "", sides.get(name, "")) for name, parts in rest.items()
    }
    return Layout(places, beside, notes)


def side_of(folder: str) -> str:
    """Return which side a folder or a table's value names: `train`, `held-out`, or nothing."""
    return _parsed(folder)[0]


def without_repeats(folder: str) -> str:
    """Return a folder's name without the repeat count of kohya's trainers: "10_sks painting" is "sks painting"."""
    return _REPEATS.sub("", folder, count=1) if _REPEATS.match(folder) else folder


def _parsed(folder: str) -> tuple[str, str]:
    """Return the side that a folder's name says, and what else it says: of trainA the letter."""
    for match in _WORDS.finditer(folder):
        side = SIDES.get(re.sub(r"[-_ ]", "", match.group()).lower(), "")
        if side:
            others = re.split(r"[\W_\d]+", f"{folder[: match.start()]} {folder[match.end() :]}")
            return side, " ".join(word for word in others if word and word.lower() not in GENERIC)
    return "", ""


def _is_wrapper(all_parts: Iterable[tuple[str, ...]]) -> bool:
    """Say whether the one folder around all pictures is no class: it holds folders, or says only that it holds them."""
    parts = list(all_parts)
    first = parts[0][0]
    side, more = _parsed(first)
    return any(len(each) > 1 for each in parts) or first.lower() in GENERIC or (bool(side) and not more)


def _are_sides(folders: set[str]) -> bool:
    """Say whether these folders part the pictures: a word for train and one for test, else the same words."""
    parsed = [_parsed(folder) for folder in folders]
    train = {more for side, more in parsed if side == TRAIN}
    held_out = {more for side, more in parsed if side == HELD_OUT}
    return all(side for side, _ in parsed) and bool(train & held_out)


def _wrapped(rest: Mapping[str, tuple[str, ...]], sides: Mapping[str, str]) -> set[str]:
    """Return the pictures of one side that lie in a folder of GENERIC which is no class: the other side has none such.

    Pictures to train on where all lie in that one folder; to hold out any, since each may come from a folder of its own
    (Tiny-ImageNet's val/images and test/images, beside train/n01443537).
    """
    inside: dict[str, dict[str, set[str]]] = {TRAIN: {}, HELD_OUT: {}}
    for name, parts in rest.items():
        inside[sides[name]].setdefault(parts[0] if parts else "", set()).add(name)
    train, held_out = inside[TRAIN], inside[HELD_OUT]
    for folder in sorted(train.keys() ^ held_out.keys()):
        if folder.lower() in GENERIC and (folder in held_out or len(train) == 1):
            return (train | held_out)[folder]
    return set()


def _share_classes(all_parts: Iterable[tuple[str, ...]]) -> bool:
    """Say whether train and test folders, which stand beside others, hold folders of the same names: the classes."""
    inside: dict[str, set[str]] = {TRAIN: set(), HELD_OUT: set()}
    for parts in all_parts:
        side, more = _parsed(parts[0]) if len(parts) > 1 else ("", "")
        if side and not more:
            inside[side].add(parts[1])
    return bool(inside[TRAIN] & inside[HELD_OUT])


def _parted(rest: dict[str, tuple[str, ...]], level: int) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Take the level of train and test folders out of the paths. Of trainA and trainB with pictures, A and B stay."""
    parsed = {parts[level]: _parsed(parts[level]) for parts in rest.values()}
    several = len({more for side, more in parsed.values() if side == TRAIN}) > 1

    def without(parts: tuple[str, ...]) -> tuple[str, ...]:
        more = parsed[parts[level]][1] if several and len(parts) == level + 1 else ""
        return (*parts[:level], *([more] if more else []), *parts[level + 1 :])

    sides = {name: parsed[parts[level]][0] for name, parts in rest.items()}
    return sides, {name: without(parts) for name, parts in rest.items()}


def _doubtful(folders: set[str], source_name: str) -> list[str]:
    """Return a note where train and test folders stand beside others and are therefore taken as classes."""
    found = {folder: side for folder in sorted(folders) for side, more in [_parsed(folder)] if not more}
    if len(folders) > 1 and set(found.values()) == {HELD_OUT} and len(found) == len(folders):
        raise DataError(
            f"'{source_name}' has the folders {', '.join(found)}, which are held out, and none to train on. "
            "Name one of them 'train', or give the path of one."
        )
    if {TRAIN, HELD_OUT} <= set(found.values()):
        named = [folder for folder, side in found.items() if side]
        others = [folder for folder, side in found.items() if not side]
        return [
            f"The folders {', '.join(named)} are taken as labels, and trained on, because of other folders "
            f"beside them ({', '.join(others[:5])}). Leave train and test folders alone to have test pictures held out."
        ]
    return []
