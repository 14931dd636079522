"""Captions that lie beside the pictures: 0.txt or 0.caption for 0.png, as trainers of LoRA expect them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from dtrak_core.datasets.source_files import SourceFile
from dtrak_core.errors import DataError

ENDINGS = (".txt", ".caption")  # the first that is there is read
_NUMBERS = re.compile(r"[-+\d.,;:eE\s]+")


def beside(files: Iterable[SourceFile], pictures: Iterable[SourceFile]) -> dict[str, SourceFile]:
    """Return the file with the caption of each picture that has one, by the picture's name."""
    texts: dict[str, dict[str, SourceFile]] = {}
    for file in files:
        stem, dot, ending = file.name.rpartition(".")
        if dot and f".{ending.lower()}" in ENDINGS:
            texts.setdefault(stem, {})[f".{ending.lower()}"] = file
    found: dict[str, SourceFile] = {}
    for picture in pictures:
        path = PurePosixPath(picture.name)
        # 0.txt for 0.png; some tools write 0.png.txt.
        for stem in (str(path.with_suffix("")), picture.name):
            for ending in ENDINGS:
                if ending in texts.get(stem, {}):
                    found.setdefault(picture.name, texts[stem][ending])
    return found


def doubled(files: Iterable[SourceFile], read: dict[str, SourceFile]) -> list[SourceFile]:
    """Return the files that would be a picture's caption if another one were not read."""
    taken = {file.name for file in read.values()}
    stems = {file.name.rpartition(".")[0] for file in read.values()}
    stem_and_ending = ((file, *file.name.rpartition(".")[::2]) for file in files if file.name not in taken)
    return [file for file, stem, ending in stem_and_ending if stem in stems and f".{ending.lower()}" in ENDINGS]


def read(file: SourceFile) -> str:
    """Return a caption: the first line that is not empty, as kohya's trainers read it; empty where it is no caption.

    A file of numbers alone holds boxes or a class of the picture, no words that a model could be told.

    Raises:
        DataError: If it is not text in UTF-8, or UTF-16 with its mark.
    """
    text = decoded(file.read(), file.name)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return "" if _NUMBERS.fullmatch(line) else line


def decoded(data: bytes, name: str) -> str:
    """Return text in UTF-8, or in UTF-16 where it begins with its mark, as Excel and Windows write it.

    Raises:
        DataError: If it is neither; one sentence names the file.
    """
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        form = "CSV UTF-8" if name.lower().endswith((".csv", ".tsv")) else "UTF-8"
        raise DataError(
            f"{name} is not text in UTF-8 ({error.reason} at byte {error.start:,}). Save it as {form}.{_guessed(data)}"
        ) from None


def whole(text: str) -> str:
    """Return text without half characters, which are left where a program cuts it by units of UTF-16: an emoji has two.

    JSON and arrays can hold them; nothing can write them as UTF-8.
    """
    return text.encode("utf-8", "ignore").decode("utf-8")


def _guessed(data: bytes) -> str:
    """Say which encoding bytes are probably in, and what converts them: no byte tells Windows-1252 from its like."""
    try:
        printed = data.decode("cp1252").replace("\r", "").replace("\n", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return ""
    how = "'iconv -f WINDOWS-1252 -t UTF-8' converts it"
    return f" It is probably in Windows-1252 (cp1252): {how}." if printed else ""
