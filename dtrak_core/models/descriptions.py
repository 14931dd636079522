"""What a stored checkpoint is, in words: its kind, pictures, prediction, schedule, classes and licence. No torch here.

Everything is read from the JSON files that lie beside the weights, or in the folder of their base.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtrak_core.amounts import counted
from dtrak_core.models import bases, checkpoints, class_names, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import DIFFUSION_STEPS, PREDICTIONS, Sampled
from dtrak_core.models.targets import Target

ORIGINS = {  # of a target, by the beginning of its id
    "seed": "A diffusion model drew this picture.",
    "held-out": "This picture was kept out of training; no model drew it.",
    "train": "This picture is one of the training pictures; no model drew it.",
    "upload": "You brought this picture.",
}
CARD = "README.md"  # a model's card on a hub: its front matter names the licence
SCHEDULER = "scheduler/scheduler_config.json"


def described(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what a checkpoint is, by heading; what its files do not tell is left out."""
    if checkpoint.base:
        return _of_base(checkpoint)
    network = _json(checkpoint.folder / "unet" / "config.json")
    told = "class-conditional" if checkpoint.classes else "unconditional"
    colours = "grey" if network.get("in_channels") == checkpoint.fold**2 else "in colours"
    side = network.get("sample_size")
    side = side[0] if isinstance(side, list) else side
    found = {
        "Model": f"{told} network of pixels ({network.get('_class_name', 'UNet2DModel')})",
        "pictures": f"{side * checkpoint.fold} px, {colours}" if isinstance(side, int) else colours,
        **schedule(_json(checkpoint.folder / SCHEDULER)),
        "classes": class_names.listed(checkpoint.classes),
        "licence": str(checkpoint.run.manifest.get("licence", "")),
    }
    return {name: value for name, value in found.items() if value}


def sentence(checkpoint: Checkpoint) -> str:
    """Return in plain words what a checkpoint is and how it draws; what its files do not tell is left out."""
    network = _json(checkpoint.folder / "unet" / "config.json")
    base = next((one for one in bases.listing() if one.digest == checkpoint.base), None)
    config = _json((checkpoint.folder if base is None else base.folder) / SCHEDULER)
    side = network.get("sample_size")
    side = side[0] if isinstance(side, list) else side
    pixels = base.resolution if base is not None else side * checkpoint.fold if isinstance(side, int) else 0
    size = f" of {pixels} × {pixels} pixels" if pixels else ""
    if checkpoint.base:
        what = "turns a text into a picture"
    else:
        what = "draws a picture of the class it is told" if checkpoint.classes else "draws pictures"
    learned = f"It {what}{size}, starting from noise"
    words = {"the noise": "by telling noise from picture", "the clean picture": "by guessing the clean picture"}
    how = words.get(schedule(config).get("predicts", ""), "")
    return f"{learned} and, step by step, {how}." if how else f"{learned}, step by step."


def learned_from(checkpoint: Checkpoint, count: int) -> int:
    """Return from how many of the `count` training pictures a checkpoint has learned."""
    chosen = checkpoints.learned(checkpoint)
    return count if chosen is None else len(set(chosen))


def origin(target: Target, checkpoint: Checkpoint, count: int) -> str:
    """Say who drew a picture, and which of the `count` training pictures the model had learned from."""
    drawn = ORIGINS[target.id.partition(":")[0]]
    some, here = learned_from(checkpoint, count), "epochs" in checkpoint.run.settings
    those = counted(some, "picture") if some == count else f"{some:,} of the {count:,} pictures"
    if checkpoint.base:
        had = "had learned" if here else "are said to have learned"
        return f"{drawn} The model's LoRA weights {had} from {those}, the base under them from other pictures before."
    if not here:
        return f"{drawn} The model was made elsewhere and is said to have learned from {those}."
    return f"{drawn} The model had learned from {those}, and from nothing else."


def way(sampled: Sampled, checkpoint: Checkpoint) -> str:
    """Return in words how pictures are drawn, whatever their prompts: DDIM in 50 steps."""
    sampler = "Euler's method" if checkpoints.process_of(checkpoint)[0] == "flow" else sampled.sampler.upper()
    return f"{sampler} in {counted(sampled.sampling_steps, 'step')}" + (f" at η {sampled.eta:g}" if sampled.eta else "")


def undrawn(checkpoint: Checkpoint, who: str, asked: Sampled | None = None, prompts: Sequence[str] = ()) -> str:
    """Say of a model that it has drawn no picture, or none the way that was asked for; None is its own way.

    `prompts` are those that were asked for; without any, pictures of all prompts were.
    """
    if prompts and asked is not None:
        words = " or ".join(map(repr, prompts))
        return f"{who} has drawn no picture for {words} by {way(asked, checkpoint)} yet."
    if not (count := len(targets.drawn(checkpoint.digest))):
        return f"{who} has drawn no picture yet."
    named = "its usual way" if asked is None else "this way"
    told = way(asked or targets.own_way(checkpoint.digest), checkpoint)
    return f"{who} has drawn {counted(count, 'picture')}, but none {named}, {told}; only such pictures count here."


def _of_base(checkpoint: Checkpoint) -> dict[str, str]:
    base = next((one for one in bases.listing() if one.digest == checkpoint.base), None)
    if base is None:
        return {"Model": "LoRA weights of a base that is not here any more"}
    kind = _json(base.folder / "model_index.json").get("_class_name", "")
    found = {
        "Model": f"LoRA weights of the base {base.name}" + (f" ({kind})" if kind else ""),
        "pictures": f"{base.resolution} px, in colours",
        **schedule(_json(base.folder / SCHEDULER)),
        "classes": class_names.listed(checkpoint.classes),
        "licence": licence(base.folder),
    }
    return {name: value for name, value in found.items() if value}


def schedule(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what is predicted, and the noise schedule, of a scheduler_config.json."""
    if not config:
        return {}
    steps = int(config.get("num_train_timesteps") or DIFFUSION_STEPS)
    if str(config.get("_class_name")).startswith("FlowMatch") or config.get("use_flow_sigmas"):
        own = f"{config.get('flow_shift') or config.get('shift') or 1.0:g}"
        shift = "by the picture's size" if config.get("use_dynamic_shifting") else own
        return {"predicts": "flow", "schedule": f"{steps:,} noise levels, shift {shift}"}
    betas = config.get("trained_betas")
    kind = "betas of its own" if betas else f"betas {config.get('beta_schedule', 'linear')}"
    words = {"noise": "the noise", "sample": "the clean picture", "v": "v", "flow": "flow"}
    named = config.get("prediction_type") or "epsilon"
    predicts = PREDICTIONS.get(named if config.get("predict_epsilon", True) else "sample")  # as older configs say it
    return {
        "predicts": words.get(str(predicts), ""),
        "schedule": f"{len(betas) if betas else steps:,} timesteps, {kind}",
    }


def licence(folder: Path) -> str:
    """Return the licence that a model's card names in its front matter; empty where there is none."""
    try:
        lines = (folder / CARD).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    rules = [i for i, line in enumerate(lines) if line.strip() == "---"]
    if len(rules) < 2 or rules[0] > 0:
        return ""
    front = dict(line.split(":", 1) for line in lines[1 : rules[1]] if ":" in line)
    name, more = (front.get(key, "").strip().strip("'\"[]") for key in ("license", "license_name"))
    return more if name in ("", "other") and more else name


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where it cannot be read: a description leaves out what is not known."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
