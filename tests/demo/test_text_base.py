"""The small text-to-image base: its tokenizer is cut out of CLIP's, and is the one that ships."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import open_clip

from dtrak_core import store
from dtrak_core.datasets import openmoji
from dtrak_core.demo import text_base

SHIPPED = sorted((store.PROJECT / "cache" / "demo" / "bases").glob("*/pipeline/tokenizer"))


def captions() -> list[str]:
    with text_base.FACTS.open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    return names + [row["caption"] for row in openmoji.facts() if row["subgroup"] == openmoji.ROLES]


def test_the_tokenizer_of_the_base_that_ships_is_made_again(tmp_path: Path) -> None:
    text_base.build_tokenizer(captions()).save_pretrained(tmp_path)
    made, shipped = (json.loads((folder / "tokenizer.json").read_text())["model"] for folder in (tmp_path, *SHIPPED))
    assert len(shipped["vocab"]) == 2920
    assert made["vocab"] == shipped["vocab"]
    assert made["merges"] == shipped["merges"]


def test_captions_are_split_as_open_clip_splits_them() -> None:
    said = sorted({caption for caption in captions() if caption.isascii()})
    ours, theirs = text_base.build_tokenizer(said), open_clip.get_tokenizer("ViT-B-32")
    assert len(said) > 1000
    for caption in said:
        split = [theirs.decoder[number] for number in theirs.encode(caption)]
        assert ours.tokenize(caption) == split
        assert ours.convert_ids_to_tokens(ours(caption).input_ids)[1:-1] == split
