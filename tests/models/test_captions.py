"""What captions tell a base's denoiser: stored once, and then read without the text encoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import text_helpers
import torch
from diffusers import StableDiffusionPipeline

from dtrak_core import store
from dtrak_core.models import base_parts, bases, captions
from dtrak_core.models.bases import Base

WORDS = ("a red disc", "", "a red disc", "a blue disc")


@pytest.fixture
def base(cache: Path) -> Base:
    shutil.copytree(text_helpers.stored() / "cache", cache)
    return bases.by_name("small")


def test_captions_are_told_once(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    side = base_parts.text_side(base)
    side.tell(WORDS)
    told = side.conditions(WORDS)["hidden"]
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    ids = pipe.tokenizer(list(WORDS), padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(told, pipe.text_encoder(ids).last_hidden_state)
    assert "words" not in side.__dict__, "the encoders' memory is given back"

    monkeypatch.setattr(base_parts, "_words", lambda *_: pytest.fail("the text encoders were opened again"))
    again = base_parts.text_side(base)
    assert torch.equal(again.conditions(WORDS[::-1])["hidden"], told.flip(0))
    assert len(store.listing(captions.KIND)) == 1
    assert "words" not in base_parts.text_side(base, storing=False).__dict__


def test_what_another_worker_stored_is_found(base: Base) -> None:
    side, other = base_parts.text_side(base), base_parts.text_side(base)
    side.tell(["a red disc"])
    other.tell(["a red disc", "a green disc"])
    assert sorted(len(json.loads(a.file(captions.CAPTIONS).read_bytes())) for a in store.listing(captions.KIND)) == [
        1,
        1,
    ]
    assert torch.equal(side.conditions(["a green disc"])["hidden"], other.conditions(["a green disc"])["hidden"])


def test_what_was_deleted_is_told_anew(base: Base) -> None:
    side = base_parts.text_side(base)
    side.tell(["a red disc"])
    told = base_parts.text_side(base).conditions(["a red disc"])["hidden"]
    (artifact,) = store.listing(captions.KIND)
    store.delete(captions.KIND, artifact.key)
    assert torch.equal(side.conditions(["a red disc"])["hidden"], told)
    assert len(store.listing(captions.KIND)) == 1
