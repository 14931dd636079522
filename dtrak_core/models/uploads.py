"""Pictures that the user brings to be explained: stored by their pixels, called as they were when brought last."""

from __future__ import annotations

from dtrak_core import store
from dtrak_core.datasets import captions, thumbnails
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.datasets.images import open_picture
from dtrak_core.errors import NotFoundError
from dtrak_core.settings import Digest, Settings, build, key_of
from dtrak_core.store import Artifact

KIND, PICTURE = "uploads", "image.png"


class UploadSettings(Settings):
    """An uploaded picture, by the digest of its pixels after cropping and resizing."""

    pixels: Digest


def keep(dataset: Dataset, data: bytes, name: str) -> Artifact:
    """Store a picture, cropped and resized as the dataset's were; one that is stored already takes the new name.

    Raises:
        DataError: If it is not a picture, or a decompression bomb.
    """
    name = captions.whole(name)  # a file's on Linux may hold bytes that are no text, which could not be printed
    image = open_picture(data, name, dataset.settings.resolution)
    settings = build(UploadSettings, pixels=image_digest(image))
    key = key_of(KIND, settings)
    with store.computing(KIND, key) as found:
        if found is None:
            store.write_bytes(store.partial(KIND, key) / PICTURE, thumbnails.png(image))
            return store.publish(KIND, key, settings, name=name)
    if found.manifest["name"] != name and not found.shipped:
        store.write_json(found.path / store.MANIFEST, {**found.manifest, "name": name})
    return store.get(KIND, key)


def opened(pixels: str) -> Artifact:
    """Return the stored picture of this digest.

    Raises:
        NotFoundError: If there is none.
    """
    artifact = store.find(KIND, key_of(KIND, build(UploadSettings, pixels=pixels)))
    if artifact is None:
        raise NotFoundError(f"No uploaded picture has the digest {pixels}. Upload it again.")
    return artifact
