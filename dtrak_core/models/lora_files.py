"""Find and read LoRA weights made elsewhere, whatever trainer wrote them.

Read are diffusers' own files, old and new, kohya's with alphas, of convolutions and with dora_scale, and PEFT's
adapter_model.safetensors with its adapter_config.json. They may change the text encoder beside the denoiser. What else
can be told by its names (LoHa, LoKr, weights of another network) is refused by what it is.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from peft import LoraConfig
from torch import Tensor

from dtrak_core import program
from dtrak_core.errors import DataError, NotFoundError, first_line
from dtrak_core.models import weights
from dtrak_core.models.base_parts import UNREADABLE
from dtrak_core.models.model_files import LORA as FILE
from dtrak_core.models.model_files import config_of
from dtrak_core.models.text_families import Family

PEFT, PEFT_CONFIG, DORA = "base_model.model.", "adapter_config.json", ".dora_scale"
ENDINGS = (".safetensors", ".bin", ".pt")
PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
USUAL = (FILE, PEFT_FILES[0], "pytorch_lora_weights.bin", PEFT_FILES[1])
OTHER_KINDS = {  # what names of weights hold, and what these weights are
    "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "boft_": "BOFT", "on_input": "IA3", "ia3_": "IA3",
    "vera_": "VeRA", "lora_mid": "CP-decomposed LoRA",
}  # fmt: skip
OTHER_NETWORKS = {
    "unet": "a UNet, as in Stable Diffusion",
    "text_encoder_2": "a second text encoder, as in Stable Diffusion XL",
    "transformer": "a transformer, as in Flux or Stable Diffusion 3",
    "vae": "the autoencoder",
}
TEXT_ENCODER = {"text_model", "encoder", "embeddings", "final_layer_norm"}  # its parts with weights


@dataclass(frozen=True)
class Adapter:
    """LoRA weights as diffusers takes them: by name, with alphas as kohya's files note them, or a config as others do.

    Every name begins with that of its network, `unet.` say.
    """

    state: Mapping[str, Tensor]
    alphas: Mapping[str, float]
    metadata: Mapping[str, Any]

    def joined(self, other: Adapter) -> Adapter:
        """Return these weights and others."""
        return Adapter(
            {**self.state, **other.state}, {**self.alphas, **other.alphas}, {**self.metadata, **other.metadata}
        )

    def of(self, part: str) -> Adapter:
        """Return the weights of one network."""

        def own(held: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in held.items() if name.startswith(f"{part}.")}

        return Adapter(own(self.state), own(self.alphas), own(self.metadata))


def choose(folder: Path, source: str, parts: Iterable[str]) -> tuple[Path, ...]:
    """Return the file of a folder that holds its LoRA weights; or of PEFT's, a folder for each network, all of them.

    Args:
        folder: What the user gave, or the hub's copy.
        source: What the user calls it.
        parts: The networks whose folders PEFT's files may lie in (`Family.changed`).

    Raises:
        NotFoundError: If there is none, or several and none has a usual name; the sentence says which there are.
    """
    if (folder / "model_index.json").is_file():
        raise DataError(
            f"'{source}' is a whole pipeline, not LoRA weights. Leave out --base to take in a DDPM, or take a "
            f"text-to-image model in with: {program.command('base')}."
        )
    held = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
    for name in USUAL:
        if folder / name in held:
            return (folder / name,)
    plain = [path for path in held if path.suffix == ".safetensors"] or held
    if len(plain) == 1:
        return (plain[0],)
    if not plain:
        inner = [of_peft(folder / part) for part in parts]
        if found := tuple(path for path in inner if path is not None):
            return found
        raise NotFoundError(
            f"'{source}' holds 0 .safetensors files. Give a folder with LoRA weights ({FILE}), or their file."
        )
    kind = ".safetensors " if plain[0].suffix == ".safetensors" else ""
    names = ", ".join(path.name for path in plain[:6]) + (", ..." if len(plain) > 6 else "")
    raise NotFoundError(
        f"'{source}' holds {len(plain)} {kind}files and none is {FILE}: {names}. Give the file that is meant "
        f"by its path, which ends in {plain[0].name} for example; download it first where it lies on the hub."
    )


def of_peft(folder: Path) -> Path | None:
    """Return the weights that PEFT's save_pretrained wrote into a folder, None where there are none."""
    return next((folder / name for name in PEFT_FILES if (folder / name).is_file()), None)


def read(files: Sequence[Path], source: str, family: Family, network: Any) -> Adapter:
    """Return the weights of files as `choose` finds them.

    Args:
        files: One file; or of PEFT one for each network.
        source: What the user calls it.
        family: Whose weights they are to be.
        network: The base's denoiser: by its config block numbers of kohya's files are understood.

    Raises:
        NotFoundError: If PEFT's config is missing beside PEFT's weights.
        DataError: If a file is damaged, a stand-in, holds code, numbers that are not finite, no LoRA weights, or such
            of another network or of no denoiser.
    """
    found = Adapter({}, {}, {})
    for file in files:
        found = found.joined(_of_file(file, source, family, network))
    _refuse_other_networks(found.state, source, family)
    return found


def _of_file(file: Path, source: str, family: Family, network: Any) -> Adapter:
    held = weights.read_file(file, source)
    refuse_other_kinds(held, source)
    scales = {name: value for name, value in held.items() if name.endswith(DORA)}
    given = {name: value for name, value in held.items() if name not in scales}
    # diffusers leaves dora_scale out. Its own notes, which no such file has, it finds in the file alone.
    what: dict[str, Any] = {} if scales else {"weight_name": file.name, "local_files_only": True}
    kind = getattr(diffusers, family.loader)
    what |= {"unet_config": network.config} if family.part == "unet" else {}
    what |= {"return_alphas": True} if "return_alphas" in inspect.signature(kind.lora_state_dict).parameters else {}
    try:
        state, *alphas, metadata = kind.lora_state_dict(
            dict(given) if scales else str(file.parent), return_lora_metadata=True, **what
        )
    except UNREADABLE as error:
        raise DataError(f"'{source}' holds no LoRA weights that diffusers knows ({first_line(error)}).") from None
    blocks = {name for name, _ in network.named_children()}
    if any(name.startswith(PEFT) for name in state):
        state = {name.removeprefix(PEFT): value for name, value in state.items()}
        part = family.part
        if family.adapted and {name.split(".")[0] for name in state} <= TEXT_ENCODER:
            part = file.parent.name if file.parent.name in family.adapted else family.adapted[0]
        metadata = {f"{part}.{name}": value for name, value in _peft_config(file, source).items()}
        state = {f"{part}.{name}": value for name, value in state.items()}
    elif {name.split(".")[0] for name in state} <= blocks:  # as diffusers wrote them before mid-2023
        state = {f"{family.part}.{name}": value for name, value in state.items()}
    return Adapter(
        state | _magnitudes(scales, given, state, source), (alphas[0] if alphas else None) or {}, metadata or {}
    )


def _magnitudes(
    scales: Mapping[str, Tensor], given: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Return kohya's dora_scale (O, 1, ..) as PEFT's magnitudes, under the names that diffusers gave the rest."""
    named = {id(value): name for name, value in state.items()}
    found = {}
    for name, value in scales.items():
        down = given.get(name.replace(DORA, ".lora_down.weight"))
        up = given.get(name.replace(DORA, ".lora_up.weight"))
        if down is None or up is None or id(down) not in named:
            raise DataError(f"'{source}' holds {name}, but no LoRA weights that it scales. Get the file again.")
        if value.shape[0] != up.shape[0] or value.numel() != up.shape[0]:
            raise DataError(
                f"'{source}' holds DoRA weights of columns: {name} is {list(value.shape)}. Those of rows can be used, "
                f"one number for each of the {up.shape[0]} outputs: train with wd_on_output."
            )
        new = named[id(down)]
        for ending in ("_lora.down.weight", ".lora.down.weight", ".lora_linear_layer.down.weight"):
            new = new.replace(ending, ".lora_magnitude_vector.weight")
        found[new] = value.reshape(1, -1, 1, 1) if down.dim() == 4 else value.flatten()
    return found


def refuse_other_kinds(names: Collection[str], source: str) -> None:
    """Refuse what is no LoRA by the names of its weights: LoHa and the like, a network's own state, whole layers."""
    for part, kind in OTHER_KINDS.items():
        if any(part in name for name in names):
            raise DataError(
                f"'{source}' holds {kind} weights. LoRA weights alone can be attributed, of PEFT, diffusers or kohya: "
                "train such ones, or convert these."
            )
    if not any("lora" in name for name in names):
        raise DataError(
            f"'{source}' holds no LoRA weights: no name in it says so ({next(iter(names), 'it is empty')}). Give the "
            f"file that a LoRA training wrote, like {FILE}."
        )
    if named := [name for name in names if re.search(r"\.lora_[AB]\.\w+\.weight$", name)]:
        raise DataError(
            f"The names in '{source}' hold that of an adapter, as in a network's own state ({named[0]}), and not the "
            "scale. Save the weights with PEFT's save_pretrained, or with save_lora_weights of diffusers."
        )
    if whole := [name for name in names if name.startswith(PEFT) and ".lora_" not in name]:
        raise DataError(
            f"'{source}' holds whole layers beside LoRA weights ({whole[0].removeprefix(PEFT)}), as PEFT's "
            "modules_to_save trains them. LoRA weights alone can be attributed: train without it."
        )


def _refuse_other_networks(state: Mapping[str, Tensor], source: str, family: Family) -> None:
    parts = {name.split(".")[0] for name in state}
    if others := sorted(parts - {family.part, *family.adapted}):
        also = "also " if family.part in parts else ""
        told = OTHER_NETWORKS.get(others[0], "")
        raise DataError(
            f"The LoRA weights of '{source}' {also}change {others[0]}{f' ({told})' if told else ''}, which the base "
            "does not have. Give the base that they were trained on, or other weights."
        )
    if family.part not in parts:
        raise DataError(
            f"The LoRA weights of '{source}' change the text encoder alone. Attribution needs such of the denoiser "
            f"({family.part}), whose gradients it takes: give weights that were trained for it too."
        )


def _peft_config(file: Path, source: str) -> dict[str, Any]:
    """Return the settings beside PEFT's weights, without those that only say where the weights came from."""
    path = file.with_name(PEFT_CONFIG)
    if not path.is_file():
        raise NotFoundError(
            f"'{source}' holds weights of PEFT, whose scale stands in {PEFT_CONFIG}, and there is none beside them. "
            "Give the whole folder that save_pretrained wrote."
        )
    config = config_of(path, file.parent, source)
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise DataError(f"'{source}' holds {kind} weights. LoRA weights alone can be attributed: train such ones.")
    known = {one.name for one in dataclasses.fields(LoraConfig)} - {"auto_mapping", "base_model_name_or_path"}
    return {name: value for name, value in config.items() if name in known}
