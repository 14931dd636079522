"""Bases as their makers publish them: vocabularies, older names, schedules of other solvers, parts that nobody asks."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import family_helpers
import sentencepiece
import text_helpers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import T5Config, T5EncoderModel

from dtrak_core.models import base_parts, bases, importing_text, text_pipelines
from dtrak_core.progress import quiet

NOTHING = [None, None]


def changed(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(values)))


def with_sentencepiece(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Give a pipeline a T5 whose vocabulary is a spiece.model and nothing else, as PixArt's is."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(20 * [f"a {words}" for words in text_helpers.WORDS]), model_writer=made, vocab_size=60,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(made.getvalue())
    own = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 512, "legacy": True}
    marks = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(own | marks))
    config = T5Config(vocab_size=192, d_model=family_helpers.WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())


def test_a_vocabulary_of_sentencepiece_alone_opens(cache: Path, tmp_path: Path) -> None:
    folder = family_helpers.saved("pixart-sigma", tmp_path / "pipeline")
    pieces = with_sentencepiece(folder)
    changed(  # the published class of PixArt's denoiser
        folder / "transformer" / "config.json",
        {"_class_name": "Transformer2DModel", "double_self_attention": False, "num_vector_embeds": None},
    )
    changed(folder / "model_index.json", {"transformer": ["diffusers", "Transformer2DModel"]})
    importing_text.import_base(str(folder), "pixart", quiet, family_helpers.SIDE)
    words = base_parts.text_side(bases.by_name("pixart")).words
    text = f"a {text_helpers.WORDS[0]}"
    assert words.tokenizer(text).input_ids == [*pieces.encode(text), 1]
    told = base_parts.text_side(bases.by_name("pixart"), storing=False).conditions([text])
    assert int(told["mask"].sum()) == len(pieces.encode(text)) + 1


def test_sana_is_drawn_at_the_levels_of_its_own_solver(cache: Path, tmp_path: Path) -> None:
    folder = family_helpers.saved("sana", tmp_path / "pipeline")
    own = {
        "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "solver_order": 2,
        "beta_schedule": "linear", "flow_shift": 3.0, "use_flow_sigmas": True, "prediction_type": "flow_prediction",
        "num_train_timesteps": 1000, "lower_order_final": True,
    }  # fmt: skip
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(own))
    changed(folder / "model_index.json", {"scheduler": ["diffusers", "DPMSolverMultistepScheduler"]})
    importing_text.import_base(str(folder), "sana", quiet, family_helpers.SIDE)
    _, assumed = text_pipelines.judged(folder, "sana", family_helpers.SIDE)
    assert assumed == ["drawn by Euler's steps with the noise schedule of its DPMSolverMultistepScheduler"]
    flow = base_parts.schedule(bases.by_name("sana")).sampler.flow
    assert flow is not None
    euler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    euler.set_timesteps(20)
    torch.testing.assert_close(flow.sigmas(20), euler.sigmas)


def test_parts_that_nobody_asks_do_not_refuse_a_base(cache: Path, tmp_path: Path) -> None:
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    images = {"feature_extractor": ["transformers", "CLIPImageProcessor"], "image_encoder": NOTHING}
    none = {"feature_extractor": NOTHING, "image_encoder": NOTHING}
    for kind, more in (
        ("sd2", checker | images),
        ("sdxl", none | {"add_watermarker": None, "force_zeros_for_empty_prompt": True}),
        ("sd3-without-t5", none | {"text_encoder_3": NOTHING, "tokenizer_3": NOTHING}),
        ("flux-dev", none),
        ("lumina2", {"_class_name": "Lumina2Text2ImgPipeline"}),
    ):
        folder = family_helpers.saved(kind, tmp_path / kind)
        for part in ("safety_checker", "feature_extractor"):
            (folder / part).mkdir()
            (folder / part / "config.json").write_text("{}")
        changed(folder / "model_index.json", more)
        importing_text.import_base(str(folder), kind, quiet, family_helpers.SIDE)
        assert bases.by_name(kind).resolution == family_helpers.SIDE
