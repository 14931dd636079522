"""LoRA weights on the attention projections of a text-to-image model: attach, save, load (Hu et al. 2022).

The low-rank pair starts as the authors' does: A normal with standard deviation 1/rank, B zero. Files are those of
diffusers (`pytorch_lora_weights.safetensors`), so `load_lora_weights` of the base's own pipeline opens ours, and what
other trainers made for the same base opens here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from diffusers.utils.state_dict_utils import StateDictType
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from dtrak_core import store
from dtrak_core.errors import DataError, first_line
from dtrak_core.models import base_parts, devices, lora_files, quantised, text_families, weights
from dtrak_core.models.base_parts import UNREADABLE
from dtrak_core.models.bases import Base
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.lora_files import Adapter
from dtrak_core.models.model_files import LORA
from dtrak_core.models.settings import Frozen, LoraSettings, Precision
from dtrak_core.models.text_families import Family
from dtrak_core.models.text_side import TextSide
from dtrak_core.settings import digest_of

FILE = LORA
ADAPTER = "default"
MAGNITUDE = ".lora_magnitude_vector"  # of DoRA: the lengths of the rows of W + scale B A (Liu et al. 2024)


def untrained(base: Base, settings: LoraSettings, dataset: str) -> Denoiser:
    """Return a base with fresh LoRA weights, which come from torch's global generator.

    Args:
        base: The frozen model.
        settings: Rank, scale, projections, dropout, formats.
        dataset: Digest of the dataset, whose stored latents are taken.
    """
    network = base_parts.denoiser(base, settings.frozen)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale * settings.rank,  # type: ignore[arg-type]  # a float works: alpha / rank
        init_lora_weights="gaussian",
        target_modules=list(settings.targets),
    )
    network.add_adapter(config, ADAPTER)
    for name, module in network.named_modules():  # as the authors' code sets them
        if isinstance(module, nn.Dropout) and "attn" in name:
            module.p = settings.dropout
    half = settings.precision == "bfloat16"
    return _ready(base, network, base_parts.text_side(base, dataset), half)


def load(base: Base, folder: Path, dataset: str, precision: Precision, form: Frozen = "stored") -> Denoiser:
    """Return a base with the LoRA weights of a stored folder, in eval mode; see `opened`."""
    return opened(base, [folder / FILE], folder.name, dataset, precision, form)


def opened(
    base: Base,
    files: Sequence[Path],
    source: str,
    dataset: str,
    precision: Precision = "float32",
    form: Frozen = "stored",
) -> Denoiser:
    """Return a base with the LoRA weights of files, in eval mode.

    What they change of the text encoder is applied and frozen: features are of the denoiser's weights.

    Args:
        base: The model that they were trained on.
        files: What one of many trainers wrote (`lora_files`).
        source: What the user calls it.
        dataset: Digest of the dataset, whose stored latents are taken.
        precision: The format of products in the denoiser, and of its frozen weights; on a GPU it is bfloat16.
        form: Whether frozen linear layers lie in 8 or 4 bits.

    Raises:
        DataError: If the files are not LoRA weights of this base, all of them, and some of them of its denoiser.
    """
    network, family = base_parts.denoiser(base, form), text_families.of(base.folder, base.name)
    adapter = lora_files.read(files, source, family, network)
    _attach(network, adapter.of(family.part), family, family.part, source, base.name)
    network.set_adapter(ADAPTER)
    words = {part: own for part in family.adapted if (own := adapter.of(part)).state}
    side = base_parts.text_side(base, dataset, storing=not words)  # stored is what the plain encoders tell
    for part, own in words.items():
        encoder = getattr(side.words, part)
        _attach(encoder, own, family, part, source, base.name)
        base_parts.frozen(encoder)
    found = _ready(base, network, side, precision == "bfloat16")
    found.network.eval()
    return found


def told_of(denoiser: Denoiser) -> list[str]:
    """Return in words what LoRA weights change beside the denoiser, and which of a file's alphas are not followed."""
    counts = {part.replace("_", " "): len(_state(network)) for part, network in _adapted(denoiser)[1:]}
    told = [
        f"{count} of its weights change the {part}: applied, and frozen; features are of the denoiser's"
        for part, count in counts.items()
        if count
    ]
    if unfollowed := sum(_unfollowed(network) for _, network in _adapted(denoiser)):
        told.append(f"{unfollowed} of its alphas differ from the most frequent one, which is taken, as diffusers does")
    return told


def _unfollowed(network: Any) -> int:
    """Return how many alphas diffusers noted under names that PEFT does not find (of attention, and of words)."""
    if not _state(network):
        return 0
    places = [name for name, module in network.named_modules() if hasattr(module, "lora_A")]
    keys = network.peft_config[ADAPTER].alpha_pattern
    return sum(not any(re.match(rf"(.*\.)?({key})$", name) for name in places) for key in keys)


def _adapted(denoiser: Denoiser) -> list[tuple[str, Any]]:
    """Return the networks that LoRA weights may change, the denoiser first; encoders that are not opened have none."""
    side = denoiser.text
    assert side is not None
    texts = side.family.adapted if side.stored is None else ()
    return [(side.family.part, denoiser.network), *((part, getattr(side.words, part)) for part in texts)]


def _attach(network: Any, adapter: Adapter, family: Family, part: str, source: str, base: str) -> None:
    """Add LoRA weights to a network, as diffusers' pipelines do; every one of them must find its place."""
    given = _given(adapter.state, family, part, network)
    if (form := quantised.form_of(network)) != "stored" and any(name.endswith(MAGNITUDE) for name in given):
        raise DataError(
            f"'{source}' is DoRA, which needs the lengths of the base's own rows, not of weights in {form}. Leave "
            "frozen out."
        )
    places = {name for name, _ in network.named_modules()}
    _refuse_lost({name for name in given if name.split(".lora_")[0] not in places}, source, base)
    _refuse_halves(set(given), {_other_factor(name) for name in given}, source)
    how = {
        "network_alphas": adapter.alphas or None,
        "adapter_name": ADAPTER,
        # One that says nothing of this network must be none: diffusers would take rank 8.
        "metadata": adapter.metadata or None,
    }
    kind = getattr(diffusers, family.loader)
    try:
        if part == family.part:
            network.load_lora_adapter(dict(adapter.state), prefix=part, **how)
        else:
            kind.load_lora_into_text_encoder(dict(adapter.state), text_encoder=network, prefix=part, **how)
    except UNREADABLE as error:
        raise DataError(
            f"The LoRA weights of '{source}' do not fit the base '{base}': {_misfit(error)}. Give the base that "
            "they were trained on."
        ) from None
    taken = _state(network)
    _refuse_lost(set(given) - set(taken), source, base)  # of which diffusers only warns
    _refuse_halves(set(given), set(taken), source)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # PEFT makes them in the base's format
    set_peft_model_state_dict(network, given, ADAPTER)  # once more: transformers draws a text encoder's DoRA at random


def _state(network: Any) -> dict[str, Tensor]:
    """Return the LoRA weights of a network by name; none where it has no adapter."""
    if ADAPTER not in getattr(network, "peft_config", {}):
        return {}
    found: dict[str, Tensor] = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    return found


def _given(state: Mapping[str, Tensor], family: Family, part: str, network: Any) -> dict[str, Tensor]:
    """Return a file's weights under the names that PEFT gives the network's own."""
    given = {name.removeprefix(f"{part}."): value for name, value in state.items()}
    if not any("lora_A" in name for name in given):
        if part == family.part:
            given = convert_unet_state_dict_to_peft(given)
        else:  # the newer names are among those that this knows
            given = convert_state_dict_to_peft(given, StateDictType.DIFFUSERS_OLD)
    flat = part != family.part and not hasattr(network, "text_model")  # as transformers has it today
    named = {name.removeprefix("text_model.") if flat else name: value for name, value in given.items()}
    return {
        name.removesuffix(".weight") if name.endswith(f"{MAGNITUDE}.weight") else name: value
        for name, value in named.items()
    }


def _other_factor(name: str) -> str:
    pair = ("lora_A.weight", "lora_B.weight")
    return next((name.replace(a, b) for a, b in (pair, pair[::-1]) if name.endswith(a)), name)


def _refuse_halves(given: set[str], needed: set[str], source: str) -> None:
    if lacking := sorted(needed - given):
        raise DataError(
            f"The LoRA weights of '{source}' are not whole: {len(lacking)} are missing, {lacking[0]} first. Get the "
            "file again, or save it anew."
        )


def _refuse_lost(lost: set[str], source: str, base: str) -> None:
    if lost:
        raise DataError(
            f"The LoRA weights of '{source}' do not fit the base '{base}': it has no place for {len(lost)} of "
            f"them, {min(lost)} first. Give the base that they were trained on."
        )


def _misfit(error: BaseException) -> str:
    """Return the first weight of another shape that torch names, or the first line of what it says."""
    told = re.search(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)", str(error))
    if told is None:
        return first_line(error)
    name = told[1].replace(f".{ADAPTER}.", ".")
    return f"{name} is {told[2]} where {told[3]} is expected"


def save(denoiser: Denoiser, folder: Path, dtype: torch.dtype) -> str:
    """Write the LoRA weights so that plain diffusers opens them; return their digest.

    Equal weights on frozen ones of 8 or 4 bits are another model.
    """
    assert denoiser.text is not None
    layers: dict[str, Any] = {}
    digested: dict[str, Tensor] = {}
    for part, network in _adapted(denoiser):
        if not (held := _state(network)):
            continue
        state = {name: value.detach().to("cpu", dtype) for name, value in held.items()}
        config: dict[str, Any] = network.peft_config[ADAPTER].to_dict()
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        layers |= {f"{part}_lora_layers": state, f"{part}_lora_adapter_metadata": json.loads(json.dumps(plain))}
        digested |= state if network is denoiser.network else {f"{part}.{name}": value for name, value in state.items()}
    getattr(diffusers, denoiser.text.family.loader).save_lora_weights(folder, weight_name=FILE, **layers)
    store.write_bytes(folder / FILE, (folder / FILE).read_bytes())  # flushed, as all that is kept
    form, digest = quantised.form_of(denoiser.network), weights.digest(digested)
    return digest if form == "stored" else digest_of("frozen", form, digest)


def _ready(base: Base, network: Any, side: TextSide, half: bool) -> Denoiser:
    where = devices.device()
    frozen = torch.bfloat16 if half else base_parts.frozen_dtype(network, where)
    network.to(where)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
    if where.type == "cuda" and quantised.count(network) > base_parts.LARGE:
        network.enable_gradient_checkpointing()  # features too: one draw's activations are many GB
    schedule = base_parts.schedule(base)
    size = base.resolution // side.smaller
    return Denoiser(
        network,
        schedule.process.to(where),
        1,
        (side.channels, size, size),
        side,
        sampler=schedule.sampler,
        half=frozen == torch.bfloat16,
        call=side.family.call,
        classes=base_parts.classes(base),
    )
