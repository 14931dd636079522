"""Decoding of picture files: every mode, orientation and size, against torchvision and plain arithmetic."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from dtrak_core.datasets import formats, source_files
from dtrak_core.datasets.images import MAX_PIXELS, check_shape, fit, open_picture
from dtrak_core.errors import DataError


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("size", [(40, 40), (33, 57), (57, 33), (16, 200), (9, 12), (16, 16), (17, 16)])
def test_resize_and_crop_are_the_papers(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    picture = Image.fromarray(noise(*size))
    paper = Compose([Resize(16, interpolation=InterpolationMode.BILINEAR), CenterCrop(16)])
    assert np.array_equal(fit(picture, 16), np.asarray(paper(picture)))


def test_a_picture_of_the_right_size_is_untouched() -> None:
    pixels = noise(16, 16)
    assert np.array_equal(open_picture(encoded(Image.fromarray(pixels)), "a.png", 16), pixels)


def test_transparency_is_laid_on_white() -> None:
    pixels = noise(8, 8, 4)
    alpha = pixels[..., 3:].astype(float) / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    found = open_picture(encoded(Image.fromarray(pixels, "RGBA")), "a.png", 8)
    assert np.abs(found - expected).max() <= 1


def test_palette_with_a_transparent_colour() -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8).repeat(4, 0).repeat(4, 1), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = open_picture(encoded(picture, transparency=1), "a.png", 8)
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[0, 7].tolist() == [255, 255, 255]
    assert found[7, 0].tolist() == [70, 80, 90]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK", "YCbCr", "I;16", "I;16 tiff", "F", "F unit"])
def test_other_modes_show_the_same_grey(mode: str) -> None:
    grey = np.full((8, 8), 204, np.uint8)
    grey[:, :4] = 0
    if mode == "1":
        grey[:, 4:] = 255
    picture = Image.fromarray(grey)
    match mode:
        case "I;16":
            data = encoded(Image.fromarray(grey.astype(np.uint16) * 257))
        case "I;16 tiff":
            data = encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF")
        case "F":
            data = encoded(Image.fromarray(grey.astype(np.float32)), "TIFF")
        case "F unit":
            data = encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF")
        case "CMYK" | "YCbCr":
            data = encoded(picture.convert("RGB").convert(mode), "TIFF")
        case _:
            data = encoded(picture.convert(mode))
    assert np.abs(open_picture(data, "a", 8).astype(int) - grey[..., None]).max() <= 2


def test_exif_orientation_turns_the_picture_upright() -> None:
    upright = noise(12, 8)
    turned = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn by 90 degrees clockwise
    found = open_picture(encoded(turned, exif=exif), "a.png", 8)
    assert np.array_equal(found, upright[2:10])


@pytest.mark.parametrize("orientation", range(9))
def test_every_orientation_is_undone_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise(12, 8)), exif=exif)
    with Image.open(io.BytesIO(data)) as picture:
        expected = fit(ImageOps.exif_transpose(picture), 8)
    assert np.array_equal(open_picture(data, "a.png", 8), expected)


@pytest.mark.parametrize("exif", [b"MM\0*", b"\0\x08\0\x02\x01\x12\0\x03", b"II*\0\xff\xff\xff\x7f", b""])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_malformed_exif_block_leaves_the_picture_as_it_is(kind: str, exif: bytes) -> None:
    picture = Image.fromarray(noise(8, 8))
    if exif:
        data = encoded(picture, kind, exif=b"Exif\0\0" + exif if kind == "JPEG" else exif)
    else:
        data = encoded(picture, kind)
    assert np.array_equal(open_picture(data, "a.png", 8), open_picture(encoded(picture, kind), "a.png", 8))


def test_the_first_frame_of_a_moving_picture() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(data, "a.gif", 8)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "'x.png' is empty (0 bytes). Download or copy it again."),
        (b"hello" * 50, "'x.png' is damaged or not a picture. Download or copy it again."),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "'x.png' is damaged or not a picture"),
        (encoded(Image.fromarray(noise(64, 64)))[:3000], "'x.png' cannot be decoded: "),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:900], "'x.png' cannot be decoded: "),
        (encoded(Image.new("L", (40_000, 1))), "'x.png' is 40,000 x 1: too long and thin"),
    ],
    ids=["empty", "text", "postscript", "torn png", "torn jpeg", "strip"],
)
def test_what_cannot_be_read_is_named(data: bytes, says: str) -> None:
    with pytest.raises(DataError) as error:
        open_picture(data, "x.png", 64)
    assert str(error.value).startswith(says)


def test_floats_of_no_known_scale_are_refused() -> None:
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    expected = np.rint(unit * 255)[..., None].repeat(3, 2)
    for values in (unit, unit * np.float32(1.0000001), unit * 255):
        found = open_picture(encoded(Image.fromarray(values), "TIFF"), "a.tif", 8)
        assert np.abs(found - expected).max() <= 1
    for values, told in (
        (unit * 4095, "0 to 4095"),
        (unit * 2 - 1, "-1 to 1"),
        (unit * 3, "0 to 3"),
        (unit * np.nan, "nan to nan"),
    ):
        with pytest.raises(DataError, match=rf"'a\.tif' has floats from {told}; expected 0 to 1\. Divide them"):
            open_picture(encoded(Image.fromarray(values), "TIFF"), "a.tif", 8)


def test_more_than_16_bits_are_refused_rather_than_shown_white() -> None:
    for values, told in (([0, 70_000], "0 to 70000"), ([-5, 60_000], "-5 to 60000")):
        data = encoded(Image.fromarray(np.array([values] * 2, np.int32)), "TIFF")
        with pytest.raises(DataError, match=f"has values from {told}; at most 16 bits a pixel"):
            open_picture(data, "a.tif", 8)
    found = open_picture(encoded(Image.fromarray(np.array([[0, 65535]] * 2, np.int32)), "TIFF"), "a.tif", 8)
    assert (found.min(), found.max()) == (0, 255)


WRITTEN = [  # formats that Pillow writes and reads, with the ending that a file has
    *[("JPEG", ending) for ending in ("jfif", "jpe", "jpg", "JPEG")], ("AVIF", "avif"), ("JPEG2000", "jp2"),
    ("TGA", "tga"), ("ICO", "ico"), ("PCX", "pcx"), ("SGI", "sgi"), ("DDS", "dds"), ("QOI", "qoi"), ("DIB", "dib"),
    ("ICNS", "icns"), ("TIFF", "TIF"), ("PPM", "pnm"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ending"), WRITTEN)
def test_what_pillow_reads_is_read_by_its_ending(kind: str, ending: str) -> None:
    picture = Image.new("RGB", (32, 32), (200, 100, 50))
    found = open_picture(encoded(picture, kind), f"a.{ending}", 16)
    assert np.abs(found.astype(int) - (200, 100, 50)).max() <= 4
    assert f".{ending.lower()}" in formats.endings()


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "PNG", "WEBP", "TIFF"])
def test_a_common_format_is_known_whatever_its_ending(kind: str) -> None:
    found = open_picture(encoded(Image.new("RGB", (16, 16), "red"), kind), "a.jpg", 16)
    assert np.abs(found[0, 0].astype(int) - (255, 0, 0)).max() <= 4


def test_an_avif_with_malformed_exif_is_read_without_it() -> None:
    shades = np.repeat(np.arange(16, dtype=np.uint8)[:, None] * 16, 16, axis=1)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.Base.Software] = "marked"
    out = io.BytesIO()
    Image.fromarray(np.repeat(shades[..., None], 3, axis=2)).save(out, "AVIF", quality=100, exif=exif)
    place = out.getvalue().index(b"marked")
    begin = max(out.getvalue().rfind(mark, 0, place) for mark in (b"II*\0", b"MM\0*"))
    harmed = out.getvalue()[:begin] + b"????" + out.getvalue()[begin + 4 :]
    with pytest.raises((OSError, ValueError)):
        Image.open(io.BytesIO(harmed))
    np.testing.assert_array_equal(open_picture(harmed, "a.avif", 16), open_picture(out.getvalue(), "a.avif", 16))
    with pytest.raises(DataError, match="damaged"):
        open_picture(harmed[: len(harmed) // 4], "a.avif", 16)


def test_a_rare_format_is_not_tried_where_the_ending_does_not_name_it() -> None:
    with pytest.raises(DataError, match="is damaged or not a picture"):
        open_picture(encoded(Image.new("RGB", (16, 16)), "TGA"), "a.jpg", 16)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is an HTML page, not a picture. Its download went wrong"),
        (b"\n <html><head>", "is an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "is text (XML or JSON), not a picture"),
        (b'{"error": "not found"}', "is text (XML or JSON), not a picture"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "is an SVG drawing, which is not read here: convert it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1", "is a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s1--a.png", "is a git-annex pointer"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90), "is a HEIC picture, which is not read here: convert it"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(90), "is a HEIC picture"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(90), "is an AVIF picture that is damaged"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(90), "is a film, not a picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "is a JPEG XL picture"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"PK\3\4" + bytes(40), "is a zip archive, not a picture. Unpack it."),
        (bytes(5000), "holds nothing but zeros"),
        (b"II*\0\x08\0\0\0" + bytes(20), "is a TIFF that is damaged or of a kind that is not read here"),
    ],
)
def test_what_is_no_picture_is_named_for_what_it_is(data: bytes, says: str) -> None:
    with pytest.raises(DataError) as error:
        open_picture(data, "z.jpg", 16)
    assert str(error.value).startswith(f"'z.jpg' {says}")


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header claims this size and whose body is a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_pictures_of_the_largest_35_mm_cameras_are_read() -> None:
    """Sony's A7R IV; the bound leaves them whole and lies below what Pillow warns of."""
    check_shape((9_504, 6_336), 16, "it")
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS < Image.MAX_IMAGE_PIXELS
    assert MAX_PIXELS * 6 < source_files.MAX_FILE, "RGB with 16 bits, uncompressed"


@pytest.mark.parametrize("side", [9_434, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Image.Image) -> None:
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert side * side > MAX_PIXELS
    with pytest.raises(DataError, match=r"'bomb\.png' would decode to .* at most 89,000,000 are allowed"):
        open_picture(bomb(side, side), "bomb.png", 16)
