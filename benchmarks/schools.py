"""Does the text-to-image demo of four schools draw what it is told? The nearest real picture says.

    python benchmarks/schools.py           what LoRA weights draw for 64 of their training captions, both schools alike
    python benchmarks/schools.py --base    what the base alone draws for 64 of its own captions, all schools alike

Needs what `make demo-schools` builds (cache/demo-schools.building, or the folder that SCHOOLS_BUILDING names). Each
drawn picture's nearest among all 6,344 real ones (1,586 subjects, four schools), by the cosine of EfficientNet-Lite0's
features at 128 pixels: is it of the prompt's subject, and of its school? Beside it real pictures, each compared with
all others: of the same subject, and of the same school. To benchmarks/results/schools.json, the drawn beside it.
"""

from __future__ import annotations

import os
import sys
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
PROMPTS, GUIDANCE, STEPS = 64, 2.0, 50
EMBEDDED = BUILDING / "embedded.npy"


def main() -> None:
    base = "--base" in sys.argv
    subjects = school_packages.subjects(BUILDING / "packages")
    seen, new = school_pictures.parted(subjects)
    hands = EVERY if base else tuple(emoji_schools.SCHOOLS)
    wanted = [(school, one) for one in evenly(seen if base else new, PROMPTS // len(hands)) for school in hands]
    drawn = draw([emoji_schools.caption(school, one.name) for school, one in wanted], base)
    real = embedded(subjects)
    names = [(school, one.hexcode) for school in EVERY for one in subjects]
    nearest = [names[i] for i in (unit(embeddings.embed(drawn, settings())) @ real.T).argmax(1)]
    rows = [
        {"prompt": emoji_schools.caption(school, one.name), "subject": code == one.hexcode, "school": near == school}
        for (school, one), (near, code) in zip(wanted, nearest, strict=True)
    ]
    report: dict[str, Any] = {"guidance": GUIDANCE, "steps": STEPS, "prompts": len(rows)}
    for fact in ("subject", "school"):
        right = sum(bool(row[fact]) for row in rows)
        report[fact] = {"right": right, "wrong": len(rows) - right, "share": round(right / len(rows), 3)}
    report |= {"real": of_real(real, names), "rows": rows}
    name = "schools_base" if base else "schools"
    RESULTS.mkdir(exist_ok=True)
    files.write_json(RESULTS / f"{name}.json", report)
    sheet(drawn).save(BUILDING / f"{name}.png")
    print({key: value for key, value in report.items() if key != "rows"})


def evenly(subjects: list[school_packages.Subject], count: int) -> list[school_packages.Subject]:
    """Return so many subjects from all over the list."""
    return [subjects[i] for i in np.linspace(0, len(subjects) - 1, count).astype(int)]


def draw(prompts: list[str], base: bool) -> np.ndarray:
    """Return a picture for each prompt, (N, 32, 32, 3), uint8: seed k for the k-th, as the app draws."""
    pipe = StableDiffusionPipeline.from_pretrained(bases.by_name(schools.BASE).folder).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if not base:
        dataset = schools.prepared()
        folder = checkpoints.by_name(schools.NAME, dataset.digest).folder
        pipe.load_lora_weights(str(folder), weight_name=lora.FILE)
    made = []
    for seed in range(0, len(prompts), 16):
        part = prompts[seed : seed + 16]
        noise = [torch.Generator().manual_seed(seed + i) for i in range(len(part))]
        made.append(
            pipe(part, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise, output_type="np").images
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
    return embeddings.settings_of(portraits.SIMILARITY, "")


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def sheet(images: np.ndarray, columns: int = 16) -> Image.Image:
    """Return pictures in rows, four times as large."""
    rows = [np.concatenate(list(images[i : i + columns]), 1) for i in range(0, len(images), columns)]
    whole = Image.fromarray(np.concatenate(rows))
    return whole.resize((whole.width * 4, whole.height * 4), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
