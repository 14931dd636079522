"""Formats of picture files: which this Pillow reads, by which endings, and what other files are in truth.

Common formats are known by their first bytes, whatever a file is called. The rarer ones have weak signs or none and
are tried only where the ending names them.
"""

from __future__ import annotations

import functools
from pathlib import PurePosixPath

from PIL import Image, features

COMMON = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI", "PSD")
# Pillow knows these too, but runs other programs for them (EPS, WMF), has no decoder (BUFR, GRIB, HDF5, MPEG), or
# their endings mostly mean something else: point clouds, circuit boards, fitness tracks, the user's own dumps.
NOT_READ = ("BUFR", "EPS", "FITS", "FTEX", "GBR", "GRIB", "HDF5", "IM", "IPTC", "MPEG", "PCD", "WMF")
NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # what Pillow may have been built without
ELSEWHERE = {  # pictures by their endings, but not for Pillow
    "a HEIC picture": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "a JPEG XL picture": (".jxl",),
    "a drawing": (".svg", ".svgz", ".eps", ".ps", ".ai", ".wmf", ".emf", ".cdr"),
    "a camera's raw file": (
        ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f",
    ),
    "a picture of more than 8 bits": (".exr", ".hdr", ".fit", ".fits"),
    "an editor's file": (".xcf", ".kra", ".clip", ".afphoto", ".psb"),
    "a document": (".pdf", ".djvu"),
}  # fmt: skip
OTHER = {  # what people keep beside pictures, and what to do about it
    "an archive inside the source is not opened: unpack it": (
        ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".cbz",
    ),
    "a film": (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv"),
    "arrays are read where the file itself is given as the source": (".npz", ".npy"),
    "a Parquet table is not read: save its pictures as files": (".parquet", ".arrow"),
    "a table is read only where it is called metadata.csv or metadata.jsonl": (
        ".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".xls", ".ods",
    ),
    "a text is read only where it is called like a picture": (".txt", ".caption"),
}  # fmt: skip
CONVERT = "convert it to PNG or JPEG"
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SIGNS = (  # first bytes, what it is
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "PSD"),
)
STRANGE = (  # first bytes, what it is and what to do
    (b"version https://git-lfs", "is a Git LFS pointer, not the picture itself. Run git lfs pull where it comes from"),
    (b"/annex/objects/", "is a git-annex pointer, not the picture itself. Run git annex get where it comes from"),
    (b"\xff\x0a", f"is a JPEG XL picture, which is not read here: {CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"is a JPEG XL picture, which is not read here: {CONVERT}"),
    (b"\0\0\0\x0cjP  ", f"is a JPEG 2000 picture that this Pillow cannot read: {CONVERT}"),
    (b"%PDF", f"is a PDF document, not a picture: {CONVERT}"),
    (b"PK\x03\x04", "is a zip archive, not a picture. Unpack it"),
    (b"Rar!", "is a RAR archive, not a picture. Unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, not a picture. Unpack it"),
    (b"\x1f\x8b", "is a gzip archive, not a picture. Unpack it"),
    (b"BZh", "is a bzip2 archive, not a picture. Unpack it"),
    (b"\xfd7zXZ", "is an xz archive, not a picture. Unpack it"),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive, not a picture. Unpack it"),
    (b"PAR1", "is a Parquet table, not a picture. Save its pictures as files"),
    *((bytes([0x80, version]), "is pickled Python, which is not opened: it can run code") for version in (2, 3, 4, 5)),
    (b"\x93NUMPY", "is a NumPy array, not a picture. Give the array itself as the source"),
    (b"\x89HDF", "is an HDF5 file, not a picture"),
    (b"MATLAB", "is a MATLAB file, not a picture"),
    (b"\0\x05\x16\x07", "is a note of macOS about another file, not a picture. Delete it"),
    (b"\x76\x2f\x31\x01", f"is an OpenEXR picture, which is not read here: {CONVERT}"),
)


@functools.cache
def endings() -> dict[str, str]:
    """Return the endings of the pictures that this Pillow reads, lower case with their dot, and their formats."""
    Image.init()
    able = {name for name in Image.OPEN if name not in NOT_READ and features.check(NEEDS.get(name, "pil"))} | {"MPO"}
    return {ending: kind for ending, kind in Image.registered_extensions().items() if kind in able}


def formats_for(name: str) -> tuple[str, ...]:
    """Return the formats to try for a file: the common ones, and the one that its ending names."""
    return _with(endings().get(PurePosixPath(name).suffix.lower(), ""))


@functools.cache
def _with(named: str) -> tuple[str, ...]:
    known = set(endings().values()) - {"MPO"}  # which is opened as a JPEG
    return tuple(dict.fromkeys(kind for kind in (*COMMON, named) if kind in known))


def why_left_out(name: str) -> str:
    """Return why a file is not read as a picture, by its ending."""
    ending = PurePosixPath(name).suffix.lower()
    for what, among in ELSEWHERE.items():
        if ending in among:
            return f"{what} ({ending}), not read here: {CONVERT}"
    for what, among in OTHER.items():
        if ending in among:
            return what
    return (
        f"no picture by its ending {ending}" if ending else "no picture by its name: if it is one, give it its ending"
    )


def what_it_is(data: bytes) -> str:
    """Return what a file that Pillow cannot open is in truth, and what to do; empty where its bytes tell nothing.

    The answer goes on from the file's name: "is an HTML page, not a picture. Download it again".
    """
    if not data:
        return "is empty (0 bytes). Download or copy it again"
    if not data.strip(b"\0"):
        return "holds nothing but zeros, as after a download that broke off. Download or copy it again"
    if data[4:8] == b"ftyp":
        return _container(data)
    for sign, what in STRANGE:
        if data.startswith(sign):
            return what
    if data[257:262] == b"ustar":
        return "is a tar archive, not a picture. Unpack it"
    kind = next((kind for sign, kind in SIGNS if data.startswith(sign)), None)
    if kind is not None:
        return f"is a {kind} that is damaged or of a kind that is not read here. Save it again with 8 bits a channel"
    text = data[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return f"is an SVG drawing, which is not read here: {CONVERT}"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "is an HTML page, not a picture. Its download went wrong: download it again"
    if text.startswith((b"<?xml", b"<error", b'{"', b"{\n", b"[{")):
        return "is text (XML or JSON), not a picture. Its download went wrong: download it again"
    return ""


def _container(data: bytes) -> str:
    """Return what a file in the container of HEIC, AVIF and films is, by the brands that it names."""
    size = int.from_bytes(data[:4], "big")
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, 256), 4))}
    if brands & {b"avif", b"avis"}:
        return f"is an AVIF picture that is damaged, or this Pillow cannot read AVIF: {CONVERT}"
    if brands & set(HEIF):
        return f"is a HEIC picture, which is not read here: {CONVERT}"
    if b"crx " in brands:
        return f"is a camera's raw file, which is not read here: {CONVERT}"
    return "is a film, not a picture. Save single pictures of it"
