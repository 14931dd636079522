"""One picture file to pixels, whatever its mode and size.

A picture is turned upright by its EXIF orientation, transparency is laid on white, greys and
palettes become RGB, 16 bits become 8, floats in [0, 1] (or [0, 255]) too. Then, as the paper prepares its pictures
(Zheng et al. 2024): bilinear resize so that the shorter side fits, centre crop to a square.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import ExifTags, Image

from dtrak_core.datasets.formats import formats_for, what_it_is
from dtrak_core.errors import DataError, words_of

# Per picture: 35 mm cameras make up to 61 million. Larger sensors and some phones make 100 to 200 million, which take
# up to 800 MB decoded and as much again to be turned upright; from 89 million on Pillow warns of an attack.
MAX_PIXELS = 89_000_000
HALF_A_LEVEL = 0.5 / 255  # floats this far outside [0, 1] round to the same byte as the bound
# The entry of an AVIF's EXIF among its items; its name is one that decoders skip once it is another.
AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)
TURNS = {  # how pixels are brought upright, by the number of EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(data: bytes, name: str, resolution: int) -> np.ndarray:
    """Decode a picture file as `decoded` does, and fit it to a square.

    Returns:
        Shape (resolution, resolution, 3), uint8.
    """
    return fit(decoded(data, name, resolution), resolution)


def decoded(data: bytes, name: str, resolution: int) -> Image.Image:
    """Decode a picture file: upright, on white, in RGB.

    Size and format are read from the header and checked before anything is decoded.

    Args:
        data: Content of the file.
        name: How errors name it.
        resolution: Pixels a side of the square that it will be fitted to.

    Raises:
        DataError: If it is no picture, is damaged, would decode to too many pixels, or has values of no known scale.
    """
    # Decoders meet foreign bytes and raise what they like (OSError, SyntaxError, struct.error, ...);
    # for the user all of it means that this file cannot be read.
    try:
        picture = _opened(data, name)
    except Image.DecompressionBombError:
        raise _too_large(f"'{name}'") from None
    except Exception:
        known = what_it_is(data) or "is damaged or not a picture. Download or copy it again"
        raise DataError(f"'{name}' {known}.") from None
    with picture:
        check_shape(picture.size, resolution, f"'{name}'")
        try:
            picture.load()
            return to_rgb(_upright(picture), name)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"'{name}' cannot be decoded: {words_of(error)}.") from None


def _opened(data: bytes, name: str) -> Image.Image:
    """Open a picture; an AVIF whose EXIF is malformed without it, which other formats read when they are asked to."""
    try:
        return Image.open(io.BytesIO(data), formats=formats_for(name))
    except (OSError, ValueError, SyntaxError):  # the decoder or Pillow may refuse it
        without = AVIF_EXIF.sub(rb"\1none", data) if data[4:8] == b"ftyp" else data
        if without == data:
            raise
        return Image.open(io.BytesIO(without), formats=formats_for(name))


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


def check_shape(size: tuple[int, int], resolution: int, name: str) -> None:
    """Refuse a picture by its width and height, before anything is decoded or allocated.

    Raises:
        DataError: If it has too many pixels, or would while its short side is brought up to the resolution.
    """
    width, height = size
    if width < 1 or height < 1:
        raise DataError(f"{name} is {width:,} x {height:,}: it has no pixels. Save it again.")
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,} = {width * height:,} pixels")
    # A thin strip is small itself, but not once its short side is brought up to the resolution.
    wide, high = _fitted_size(size, resolution)
    if wide * high > MAX_PIXELS:
        raise DataError(
            f"{name} is {width:,} x {height:,}: too long and thin to be cropped to a square. Crop it first."
        )


def _too_large(name: str, size: str = "too many pixels") -> DataError:
    return DataError(f"{name} would decode to {size}; at most {MAX_PIXELS:,} are allowed. Make it smaller first.")


def _upright(picture: Image.Image) -> Image.Image:
    """Return a picture turned by its EXIF orientation; one whose EXIF cannot be read stays as it is."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # written by any program, it raises what it likes; the pixels are whole all the same
        turn = None
    return picture if turn is None else picture.transpose(turn)


def to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture in RGB, 8 bits, on white; `name` is how errors name it.

    Raises:
        DataError: If its values are of no known scale: neither of 8 or 16 bits nor floats in [0, 1].
    """
    if picture.mode == "F":
        return _from_grey(_scaled(np.asarray(picture, np.float64), name))
    if picture.mode.startswith("I"):  # 16 bits a pixel, also where they come in 32
        values = np.asarray(picture, np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"'{name}' has values from {values.min():.0f} to {values.max():.0f}; at most 16 bits a pixel are read, "
                "0 to 65,535. Save it with 8 or 16 bits."
            )
        return _from_grey(values / 257)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _scaled(values: np.ndarray, name: str) -> np.ndarray:
    """Return the floats of a picture on the scale 0 to 255, where their own scale is beyond doubt.

    It is [0, 1], or [0, 255] where they are whole or some are above half: others could be of any scale.
    """
    low, high = float(values.min()), float(values.max())
    if low >= -HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL:  # NaN fails this too
        return values * 255
    if low >= 0 and high <= 255 and (high > 127.5 or bool((values == np.rint(values)).all())):
        return values
    raise DataError(
        f"'{name}' has floats from {low:g} to {high:g}; expected 0 to 1. Divide them by the largest possible value "
        "and save it again, or save it with 8 or 16 bits."
    )


def _from_grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8)).convert("RGB")
