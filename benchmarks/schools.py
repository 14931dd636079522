"""Does the text-to-image demo of four schools draw what it is told? The nearest real picture says.

    python benchmarks/schools.py           LoRA weights, 64 captions of their training set, both schools by turns
    python benchmarks/schools.py --base    what the base alone draws for 64 of its own captions, all schools alike

Needs what `make demo-schools` builds (cache/demo-schools.building, or the folder that SCHOOLS_BUILDING names). Each
drawn picture's nearest real one, by the cosine of EfficientNet-Lite0's features at 128 pixels: is it of the prompt's
subject, and of its school? Twice: among all 6,344 (1,586 subjects, four schools), and among 400 (the prompts' subjects
and others, 100 in all). Beside it real pictures, each with the others of the same two: of the same subject, of the same
school, and of the same subject where only other schools are looked at. To benchmarks/results/schools.json, the drawn
beside the build.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = os.environ.get("SCHOOLS_BUILDING", "cache/demo-schools.building")
os.environ["STUDIO_DEMO"] = "none"

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from dtrak_core import files, store
from dtrak_core.datasets import emoji_schools
from dtrak_core.demo import portraits, school_packages, school_pictures, schools
from dtrak_core.methods import embeddings
from dtrak_core.models import bases, checkpoints, lora

BUILDING = store.root()
RESULTS = Path(__file__).parent / "results"
EVERY = (*school_pictures.WHOLE, *emoji_schools.SCHOOLS)
PROMPTS, FEW, STEPS = 64, 100, 50
EMBEDDED = BUILDING / "embedded.npy"


def main() -> None:
    base = "--base" in sys.argv
    subjects = school_packages.subjects(BUILDING / "packages")
    if base:
        seen, _ = school_pictures.parted(subjects)
        wanted = [(school, one) for one in evenly(seen, PROMPTS // len(EVERY)) for school in EVERY]
        prompts = tuple(emoji_schools.caption(school, one.name) for school, one in wanted)
    else:
        prompts = schools.drawing(schools.prepared()).prompts
        said = {emoji_schools.caption(school, one.name): (school, one) for school in EVERY for one in subjects}
        wanted = [said[prompt] for prompt in prompts]
    drawn = draw(prompts, base)
    own, real = unit(embeddings.embed(drawn, settings())), embedded(subjects)
    named = [(school, one.hexcode) for school in EVERY for one in subjects]
    asked = {one.hexcode for _, one in wanted}
    some = asked | {one.hexcode for one in evenly([s for s in subjects if s.hexcode not in asked], FEW - len(asked))}
    report: dict[str, Any] = {"guidance": schools.GUIDANCE, "steps": STEPS, "prompts": len(prompts)}
    for gallery, among in (("all 1,586 subjects", np.ones(len(named), bool)), (f"{FEW} subjects", of(named, some))):
        report[gallery] = counted(
            wanted, own, real[among], [name for name, yes in zip(named, among, strict=True) if yes]
        )
    name = "schools_base" if base else "schools"
    RESULTS.mkdir(exist_ok=True)
    files.write_json(RESULTS / f"{name}.json", report)
    sheet(drawn).save(BUILDING / f"{name}.png")
    print({key: {k: v for k, v in one.items() if k != "rows"} for key, one in report.items() if isinstance(one, dict)})


def of(named: list[tuple[str, str]], some: set[str]) -> np.ndarray:
    """Return which real pictures are of these subjects."""
    return np.array([code in some for _, code in named])


def counted(
    wanted: list[tuple[str, school_packages.Subject]], own: np.ndarray, real: np.ndarray, named: list[tuple[str, str]]
) -> dict[str, Any]:
    """Return how many drawn pictures have a nearest real one of their subject and school, and what real ones have."""
    nearest = [named[i] for i in (own @ real.T).argmax(1)]
    rows = [
        {"prompt": emoji_schools.caption(school, one.name), "subject": code == one.hexcode, "school": near == school}
        for (school, one), (near, code) in zip(wanted, nearest, strict=True)
    ]
    found: dict[str, Any] = {}
    for fact in ("subject", "school"):
        right = sum(bool(row[fact]) for row in rows)
        found[fact] = {"right": right, "wrong": len(rows) - right, "share": round(right / len(rows), 3)}
    return found | {"real": of_real(real, named), "rows": rows}


def evenly(subjects: list[school_packages.Subject], count: int) -> list[school_packages.Subject]:
    """Return so many subjects from all over the list."""
    return [subjects[i] for i in np.linspace(0, len(subjects) - 1, count).astype(int)]


def draw(prompts: Sequence[str], base: bool) -> np.ndarray:
    """Return a picture for each prompt, (N, 32, 32, 3), uint8: seed k for the k-th, as the app draws."""
    pipe = StableDiffusionPipeline.from_pretrained(bases.by_name(schools.BASE).folder).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if not base:
        dataset = schools.prepared()
        folder = checkpoints.by_name(schools.NAME, dataset.digest).folder
        pipe.load_lora_weights(str(folder), weight_name=lora.FILE)
    made = []
    for seed in range(0, len(prompts), 16):
        part = list(prompts[seed : seed + 16])
        noise = [torch.Generator().manual_seed(seed + i) for i in range(len(part))]
        made.append(
            pipe(
                part, num_inference_steps=STEPS, guidance_scale=schools.GUIDANCE, generator=noise, output_type="np"
            ).images
        )
    return np.rint(np.concatenate(made) * 255).astype(np.uint8)


def embedded(subjects: list[school_packages.Subject]) -> np.ndarray:
    """Return the features of all real pictures, each of length 1, computed once (some minutes)."""
    if not EMBEDDED.is_file():
        told = portraits.printed_steps("Real pictures")
        images = [school_packages.drawn(subjects, school, BUILDING / "packages", 32, told) for school in EVERY]
        np.save(EMBEDDED, embeddings.embed(np.concatenate(images), settings(), portraits.printed_steps("Embedding")))
    return unit(np.load(EMBEDDED))


def of_real(real: np.ndarray, names: list[tuple[str, str]]) -> dict[str, float]:
    """Return how often a real picture's nearest other one is of its subject and of its school; of its subject, where
    only other schools are looked at.
    """
    schools_of, codes = (np.array([name[i] for name in names]) for i in range(2))
    alike = real @ real.T
    np.fill_diagonal(alike, -1)
    near = alike.argmax(1)
    alike[schools_of[:, None] == schools_of] = -1
    other = alike.argmax(1)
    return {
        "subject": round(float((codes[near] == codes).mean()), 3),
        "school": round(float((schools_of[near] == schools_of).mean()), 3),
        "subject, other schools": round(float((codes[other] == codes).mean()), 3),
    }


def settings() -> Any:
    return embeddings.settings_of(portraits.SIMILARITY, "0" * 16)  # of no dataset


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def sheet(images: np.ndarray, columns: int = 16) -> Image.Image:
    """Return pictures in rows, four times as large."""
    rows = [np.concatenate(list(images[i : i + columns]), 1) for i in range(0, len(images), columns)]
    whole = Image.fromarray(np.concatenate(rows))
    return whole.resize((whole.width * 4, whole.height * 4), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
