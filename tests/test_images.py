"""Decoding of picture files: every mode, orientation and size, against torchvision and plain arithmetic."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dtrak_core.errors import DataError
from dtrak_core.images import MAX_PIXELS, fit, open_picture


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


def test_the_first_frame_of_a_moving_picture() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(data, "a.gif", 8)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "'x.png' is damaged or not a picture; PNG, JPEG, GIF, BMP, WEBP, TIFF and PPM can be read."),
        (b"hello" * 50, "'x.png' is damaged or not a picture"),
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


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header claims this size and whose body is a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7_072, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Image.Image) -> None:
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert side * side > MAX_PIXELS
    with pytest.raises(DataError, match=r"'bomb\.png' would decode to .* at most 50,000,000 are allowed"):
        open_picture(bomb(side, side), "bomb.png", 16)
