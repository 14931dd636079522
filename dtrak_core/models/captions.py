"""What captions tell a base's denoiser, computed once and stored: the text encoders need not be opened again.

An artifact holds the tensors of some captions, row by row, in the number format that the encoders gave them. Which
captions those are stands beside them; the same caption may lie in several artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dtrak_core import store
from dtrak_core.progress import Count
from dtrak_core.settings import Digest, Settings, build, digest_of, key_of

KIND, ROWS, CAPTIONS = "captions", "told.safetensors", "captions.json"
AT_ONCE = 16

Told = Mapping[str, Tensor]


class CaptionSettings(Settings):
    """What some captions tell a base's denoiser; `captions` is their digest."""

    base: Digest
    captions: Digest


@dataclass
class Stored:
    """Where the rows of captions lie that are stored for a base; found again where one is not known yet."""

    base: str
    places: dict[str, tuple[store.Artifact, int]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    opened: dict[str, Any] = field(default_factory=dict)

    def lacking(self, captions: Sequence[str]) -> list[str]:
        """Return those of the captions that are not stored, each once."""
        wanted = dict.fromkeys(captions)
        for caption in wanted.keys() & self.places.keys():
            artifact, _ = self.places[caption]
            if artifact.key not in self.opened and not artifact.path.is_dir():  # deleted meanwhile
                del self.places[caption]
                self.seen.discard(artifact.key)
        if wanted.keys() - self.places.keys():
            self._look()
        return [caption for caption in wanted if caption not in self.places]

    def rows(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the tensors of stored captions, one row each, by name."""
        found = []
        for caption in captions:
            artifact, row = self.places[caption]
            if artifact.key not in self.opened:
                self.opened[artifact.key] = safe_open(artifact.file(ROWS), framework="pt")
            file = self.opened[artifact.key]
            found.append({name: file.get_slice(name)[row : row + 1][0] for name in file.keys()})
        return found

    def _look(self) -> None:
        for artifact in store.listing(KIND):
            if artifact.settings["base"] == self.base and artifact.key not in self.seen:
                self.seen.add(artifact.key)
                for row, caption in enumerate(json.loads(artifact.file(CAPTIONS).read_bytes())):
                    self.places.setdefault(caption, (artifact, row))


def compute(base: str, captions: Sequence[str], tell: Callable[[Sequence[str]], Told], on_progress: Count) -> None:
    """Store what captions tell, each once.

    Args:
        base: Digest of the base.
        captions: Different ones.
        tell: Gives their tensors, (n, ...) each, by name.
        on_progress: Called with the captions told and their number.
    """
    settings = build(CaptionSettings, base=base, captions=digest_of(*captions))
    key = key_of(KIND, settings)
    with store.computing(KIND, key, lambda *_: on_progress(0, len(captions))) as found:
        if found is not None:
            return
        folder, made = store.partial(KIND, key), dict[str, list[Tensor]]()
        for start in range(0, len(captions), AT_ONCE):
            part = captions[start : start + AT_ONCE]
            for name, value in tell(part).items():
                made.setdefault(name, []).append(value.cpu())
            on_progress(start + len(part), len(captions))
        store.write_bytes(folder / ROWS, save({name: torch.cat(parts).contiguous() for name, parts in made.items()}))
        store.write_json(folder / CAPTIONS, list(captions))
        store.publish(KIND, key, settings)
