"""The small text-to-image base: its tokenizer is cut out of CLIP's, and so is the one that ships."""

from __future__ import annotations

import open_clip
from transformers import CLIPTokenizer

from dtrak_core import store
from dtrak_core.datasets import emoji_schools
from dtrak_core.demo import text_base

(SHIPPED,) = sorted((store.PROJECT / "cache" / "demo" / "bases").glob("*/pipeline/tokenizer"))


def test_captions_are_split_as_open_clip_splits_them() -> None:
    said = sorted({row["caption"] for row in emoji_schools.facts() if row["caption"].isascii()})
    theirs = open_clip.get_tokenizer("ViT-B-32")
    assert len(said) > 900
    for ours in (text_base.build_tokenizer(said), CLIPTokenizer.from_pretrained(SHIPPED)):
        for caption in said:
            split = [theirs.decoder[number] for number in theirs.encode(caption)]
            assert ours.tokenize(caption) == split
            assert ours.convert_ids_to_tokens(ours(caption).input_ids)[1:-1] == split
