"""One picture file to pixels, whatever its mode and size.

A picture is turned upright by its EXIF orientation, transparency is laid on white, greys and
palettes become RGB, 16 bits become 8. Then, as the paper prepares its pictures (reference.md,
section 1): bilinear resize so that the shorter side fits, centre crop to a square.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from dtrak_core.errors import DataError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 50_000_000  # per picture: more than any camera's, and no more than 200 MB decoded


def open_picture(data: bytes, name: str, resolution: int) -> np.ndarray:
    """Decode a picture file and fit it to a square.

    Size and format are read from the header and checked before anything is decoded.

    Args:
        data: Content of the file.
        name: How errors name it.
        resolution: Pixels a side.

    Returns:
        Shape (resolution, resolution, 3), uint8.

    Raises:
        DataError: If it is no picture, is damaged, or would decode to too many pixels.
    """
    # Decoders meet foreign bytes and raise what they like (OSError, SyntaxError, struct.error, ...);
    # for the user all of it means that this file cannot be read.
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception:
        raise DataError(
            f"'{name}' is damaged or not a picture; {', '.join(FORMATS[:-1])} and {FORMATS[-1]} can be read."
        ) from None
    with picture:
        _check_size(picture.size, resolution, name)
        try:
            upright = ImageOps.exif_transpose(picture)
            rgb = _to_rgb(upright)
        except Exception as error:
            raise DataError(f"'{name}' cannot be decoded: {str(error).rstrip('.') or type(error).__name__}.") from None
    return fit(rgb, resolution)


def fit(picture: Image.Image, resolution: int) -> np.ndarray:
    """Resize an RGB picture so that its shorter side fits, and crop its centre.

    Returns:
        Shape (resolution, resolution, 3), uint8. A picture of that size already is not touched.
    """
    if picture.size != (resolution, resolution):
        width, height = _fitted_size(picture.size, resolution)
        left, top = round((width - resolution) / 2), round((height - resolution) / 2)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + resolution, top + resolution))
    return np.asarray(picture, np.uint8)


def _fitted_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    width, height = size
    short = min(width, height)
    return int(resolution * width / short), int(resolution * height / short)


def _check_size(size: tuple[int, int], resolution: int, name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,} = {width * height:,} pixels")
    # A thin strip is small itself, but not once its short side is brought up to the resolution.
    wide, high = _fitted_size(size, resolution)
    if wide * high > MAX_PIXELS:
        raise DataError(
            f"'{name}' is {width:,} x {height:,}: too long and thin to be cropped to a square. Crop it first."
        )


def _too_large(name: str, size: str = "too many pixels") -> DataError:
    return DataError(f"'{name}' would decode to {size}; at most {MAX_PIXELS:,} are allowed. Make it smaller first.")


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Return the picture in RGB, 8 bits, on white."""
    if picture.mode == "F":
        values = np.asarray(picture, np.float64)
        return _from_grey(values * 255 if values.max() <= 1 else values)
    if picture.mode.startswith("I"):  # 16 bits a pixel, also where they come in 32
        return _from_grey(np.asarray(picture, np.float64) / 257)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _from_grey(values: np.ndarray) -> Image.Image:
    grey = np.rint(np.clip(np.nan_to_num(values), 0, 255)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
