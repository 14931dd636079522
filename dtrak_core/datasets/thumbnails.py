"""Pictures as PNG: lossless, enlarged by nearest neighbour, never smoothed. No torch here."""

from __future__ import annotations

import base64
import functools
import io
import math

import numpy as np
from PIL import Image

SIDE = 128  # pixels of the longer side above which a thumbnail is reduced


def png(image: np.ndarray, size: int | None = None) -> bytes:
    """Return a picture (H, W, 3), uint8, as PNG; enlarged to the largest whole multiple that fits in `size`."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    if size is not None:
        times = max(1, size // max(picture.size))
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=size is None)  # enlarged ones are sent and forgotten
    return buffer.getvalue()


def sheet(images: np.ndarray, columns: int = 8, gap: int = 1) -> bytes:
    """Return pictures (N, H, W, 3) as one PNG, row by row, with a white gap of some pixels."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        canvas[y * (height + gap) :, x * (width + gap) :][:height, :width] = image
    return png(canvas)


def decode(data: bytes) -> np.ndarray:
    """Return the pixels of a PNG that we wrote, (H, W, 3), uint8."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def address(image: np.ndarray, side: int = SIDE) -> str:
    """Return a picture (H, W, 3), uint8, as a data address: its own pixels, or reduced to `side` where it is larger."""
    height, width = image.shape[:2]
    if max(height, width) > side:
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BOX))
    return _address(image.tobytes(), image.shape)


@functools.lru_cache(maxsize=1024)
def _address(pixels: bytes, shape: tuple[int, ...]) -> str:
    """Return the address of a small picture: a page shows mostly those that it showed before."""
    return "data:image/png;base64," + base64.b64encode(png(np.frombuffer(pixels, np.uint8).reshape(shape))).decode()
