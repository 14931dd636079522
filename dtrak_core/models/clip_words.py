"""CLIP's table of byte pairs, which comes with open_clip_torch, and the whole tokenizer that Stable Diffusion has.

Token numbers are letters that can be printed first, then bytes, each also at the end of a word, then the merged pairs
in their order, then start and end (Radford et al. 2021).
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from dtrak_core import program
from dtrak_core.errors import DataError

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # tokens of a caption, start and end included
MERGED = 49152 - 256 - 2  # pairs that CLIP takes of the table


def merges() -> list[tuple[str, str]]:
    """Return the pairs in CLIP's order.

    Raises:
        DataError: If open_clip_torch, which brings the table, is not installed.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"The tokenizer's table comes with the package 'open_clip_torch'. {program.AGAIN}")
    table = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(table.read_bytes()).decode("utf-8").splitlines()[1 : MERGED + 1]
    return [(first, second) for first, second in (line.split() for line in lines)]


def letters() -> list[str]:
    """Return what words are made of: bytes as letters, then the same at the end of a word."""
    found = sorted(ByteLevel.alphabet())
    return found + [letter + "</w>" for letter in found]


def numbered(tokens: Sequence[str]) -> dict[str, int]:
    """Return each token's number."""
    return {token: i for i, token in enumerate(tokens)}


def whole(pad: str = END) -> CLIPTokenizer:
    """Return CLIP's tokenizer of 49,408 tokens; captions are filled up with `pad`."""
    return joining(merges(), LENGTH, pad)


def joining(pairs: Sequence[tuple[str, str]], length: int, pad: str = END) -> CLIPTokenizer:
    """Return the tokenizer that joins these pairs, the first before all others; captions have `length` tokens."""
    # With the list form, transformers writes vocab.json and merges.txt as older versions do.
    own: list[Any] = list(pairs)
    vocabulary = numbered([*letters(), *map("".join, pairs), START, END])
    return CLIPTokenizer(vocab=vocabulary, merges=own, model_max_length=length, pad_token=pad)
