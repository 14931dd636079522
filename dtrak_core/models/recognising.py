"""What a model made elsewhere is, said before it is taken in: its family, size, prediction, schedule, licence.

Configs and the heads of weight files are read, weights only where nothing else tells what a pickled file holds. What is
refused here is refused in the words of taking in (importing.py, importing_text.py), which looks at everything again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from dtrak_core import store
from dtrak_core.amounts import counted, size
from dtrak_core.errors import DataError
from dtrak_core.files import expanded
from dtrak_core.models import (
    descriptions,
    importing,
    importing_text,
    lora_files,
    pipelines,
    single_files,
    text_families,
    text_pipelines,
    weights,
)
from dtrak_core.models.looks import KIND, LookSettings, Recognised
from dtrak_core.models.model_files import config_of, header, refuse_damaged
from dtrak_core.progress import Progress
from dtrak_core.settings import build, key_of

SHAPE = "shape"


def look(source: str, state: str, on_progress: Progress) -> store.Artifact:
    """Store what a source is, in the state that its files have; the errors are those of `recognise`."""
    settings = build(LookSettings, source=source, state=state)
    key = key_of(KIND, settings)
    with store.computing(KIND, key, on_progress) as found:
        if found is not None:
            return found
        on_progress(0, 1, "files", "Looking at the model")
        told = recognise(source)
        on_progress(1, 1, "files", "Looking at the model")
        store.partial(KIND, key)
        return store.publish(KIND, key, settings, name=Path(source).name, **told.told())


def recognise(source: str) -> Recognised:
    """Return what a folder, a file or a repository of the hub is.

    Raises:
        NotFoundError: If there is no such thing, or a part of it is missing.
        DataError: If it is a model that cannot be used, or damaged; the sentence says what it is.
    """
    given = expanded(source)
    if given.is_file():
        return _of_file(given)
    folder = importing.folder_of(source, ["*.json", descriptions.CARD])
    here, called = given.is_dir(), folder.name if given.is_dir() else source
    if (folder / pipelines.INDEX).is_file():
        kind = str(config_of(folder / pipelines.INDEX, folder, called).get("_class_name", ""))
        if text_families.RENAMED.get(kind, kind) in text_families.FAMILIES:
            return _base(folder, called, here)
    if not here and not list(folder.rglob("config.json")):
        folder = importing.folder_of(source, importing_text.LORA_FILES)
    if importing_text.holds_lora_alone(folder):
        changed = dict.fromkeys(part for family in text_families.FAMILIES.values() for part in family.changed)
        files = lora_files.choose(folder, called, changed)
        held = {_placed(name, file, folder): shape for file in files for name, shape in _shapes(file).items()}
        return _lora(held, files, called, folder)
    # A network of pixels is small beside a text-to-image model: of the hub it is downloaded whole.
    return _pixels(folder if here else importing.folder_of(source), called)


def _base(folder: Path, called: str, here: bool) -> Recognised:
    family = text_families.of(folder, called)
    side, most = text_pipelines.own_side(folder, called), text_pipelines.SIDES[1]
    assumed: Sequence[str] = ()
    parameters, more = None, {}
    if here:
        _, assumed = text_pipelines.judged(folder, called, most if side > most else 0)
        parameters = _numbers(path for part in family.stems for path in text_pipelines.weights_of(folder, part).paths)
    else:
        more = {"download": _downloaded(called)}
    facts = {
        "Model": f"{family.name}, a text-to-image model that LoRA weights are trained on ({family.pipeline})",
        "pictures": f"{side} px, in colours" + (f"; taken in at {most} px or less" if side > most else ""),
        **descriptions.schedule(text_pipelines.scheduler_of(folder, called)),
        "parameters": _told(parameters),
        "licence": descriptions.licence(folder),
        **more,
    }
    return Recognised("base", _known(facts), tuple(assumed), side)


def _pixels(folder: Path, called: str) -> Recognised:
    importing_text.refuse_lora_alone(str(folder))
    found = pipelines.judge(folder, called)
    channels, side = pipelines.sides(found.config, called)
    fold = importing.FOLDS.get(channels, 1)
    classes = bool(found.config.get("class_embed_type") or found.config.get("num_class_embeds"))
    parameters = _numbers(found.weights.paths)
    facts = {
        "Model": f"{'class-conditional' if classes else 'unconditional'} network of pixels (UNet2DModel)",
        "pictures": f"{side * fold} px" if side else "as large as the dataset's",
        "channels": f"{channels}" + (f", folded {fold} × {fold}" if fold > 1 else ""),
        **descriptions.schedule(found.schedule.config),
        "classes": ", ".join(found.classes[:12]) + ("…" if len(found.classes) > 12 else ""),
        "parameters": _told(parameters),
        "licence": descriptions.licence(folder),
    }
    return Recognised("pixels", _known(facts), found.assumed, (side or 0) * fold, 4 * (parameters or 0))


def _of_file(file: Path) -> Recognised:
    refuse_damaged(file, file.name)
    if file.suffix not in (*lora_files.ENDINGS, ".ckpt"):
        raise DataError(
            f"'{file.name}' is no file of weights by its ending. Give a .safetensors of LoRA weights or of a Stable "
            "Diffusion, or the folder of a model in diffusers' layout."
        )
    shapes = _shapes(file)
    whole = any(name.startswith((single_files.UNET, single_files.VAE)) for name in shapes)
    if not whole and any("lora" in name or kind in name for name in shapes for kind in lora_files.OTHER_KINDS):
        return _lora(shapes, (file,), file.name, file.parent)
    kind, predicts = single_files.told(file, shapes, file.name)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    facts = {
        "Model": f"{kind}, a text-to-image model in a single file",
        "pictures": f"{single_files.RESOLUTION} px unless you say otherwise: the file does not tell",
        "predicts": predicts,
        "schedule": "1,000 timesteps, betas scaled_linear",
        "parameters": _told(parameters),
    }
    left = sum(name.startswith("model_ema.") for name in shapes)
    assumed = (f"the {left} averaged weights (model_ema) of the file are left out",) if left else ()
    return Recognised("base", _known(facts), assumed, disk=file.stat().st_size)


def _placed(name: str, file: Path, folder: Path) -> str:
    """Return a weight's name with its network's, where that is PEFT's folder: two text encoders have equal names."""
    bare = name.removeprefix(lora_files.PEFT)
    return name if file.parent == folder else f"{lora_files.PEFT}{file.parent.name}.{bare}"


def _lora(shapes: Mapping[str, tuple[int, ...]], files: Sequence[Path], called: str, folder: Path) -> Recognised:
    lora_files.refuse_other_kinds(shapes, called)
    down = {n: s for n, s in shapes.items() if any(part in n for part in ("lora_down", "lora_A", "lora.down"))}
    ranks = sorted({shape[0] for shape in down.values() if shape})
    texts = sum("text_encoder" in name or name.startswith("lora_te") for name in down)
    dora = any("dora_scale" in name or "magnitude" in name for name in shapes)
    notes = next((found for file in files if (found := _notes(file))), {})
    facts = {
        "Model": f"{'DoRA' if dora else 'LoRA'} weights of {counted(len(down), 'layer')}"
        + (f", {texts} of them in text encoders" if texts else ""),
        "written by": _trainer(shapes),
        "rank": " to ".join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1]))) if ranks else "",
        "trained on": str(notes.get("ss_sd_model_name") or notes.get("ss_base_model_version") or _peft(files)),
        "parameters": _told(sum(math.prod(shape) for shape in shapes.values())),
        "licence": descriptions.licence(folder),
    }
    return Recognised("lora", _known(facts), disk=4 * sum(math.prod(shape) for shape in shapes.values()))


def _trainer(names: Iterable[str]) -> str:
    """Return whose form of LoRA weights these names have."""
    first = next(iter(names))
    return (
        "PEFT"
        if first.startswith(lora_files.PEFT)
        else "kohya's trainers"
        if first.startswith("lora_")
        else "diffusers"
    )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a file by name: off its head, or of a pickled one, read as weights alone."""
    refuse_damaged(file, file.name)
    if file.suffix == ".safetensors":
        return {name: tuple(value[SHAPE]) for name, value in header(file).items() if name != "__metadata__"}
    return {name: tuple(value.shape) for name, value in weights.read_file(file, file.name).items()}


def _notes(file: Path) -> dict[str, Any]:
    """Return what a trainer noted in a file's head."""
    found: dict[str, Any] = header(file).get("__metadata__", {}) if file.suffix == ".safetensors" else {}
    return found


def _peft(files: Sequence[Path]) -> str:
    """Return the base that PEFT's config beside weights names."""
    path = files[0].with_name(lora_files.PEFT_CONFIG)
    found = config_of(path, path.parent, path.parent.name) if path.is_file() else {}
    return str(found.get("base_model_name_or_path") or "")


def _numbers(paths: Iterable[Path]) -> int | None:
    """Return how many numbers weight files hold, None where one does not say it in its head."""
    total = 0
    for path in paths:
        refuse_damaged(path, path.name)
        if path.suffix != ".safetensors":
            return None
        total += sum(math.prod(value[SHAPE]) for name, value in header(path).items() if name != "__metadata__")
    return total


def _downloaded(name: str) -> str:
    """Return how large the safetensors of a repository of the hub are, empty where it does not say so."""
    try:
        held = HfApi().model_info(name, files_metadata=True).siblings or []
    except importing.UNANSWERED:
        return ""
    return size(sum(one.size or 0 for one in held if one.rfilename.endswith(".safetensors") and "/" in one.rfilename))


def _told(parameters: int | None) -> str:
    if not parameters:
        return ""
    return f"{parameters / 1e6:,.1f} M" if parameters >= 1e6 else f"{parameters:,}"


def _known(facts: Mapping[str, str]) -> dict[str, str]:
    return {heading: words for heading, words in facts.items() if words}
