"""How each family of text-to-image models is told a caption, and how its denoiser is called. Rows of `text_families`.

Model space is the autoencoder's latents (B, C, h, w) for all of them: what packs them into tokens, or counts time the
other way round, does so inside the call. `time` is what the process tells the network (process.py): the timestep of a
DDPM, 1000 σ of a rectified flow. No torch is imported here: tensors do all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that folders can be judged without torch
    from torch import Tensor, nn

    from dtrak_core.models.class_names import Classes

Told = dict[str, "Tensor"]
Z_TOKENS = 512  # that Z-Image reads of a caption at most


def told_hidden(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell Stable Diffusion 1 and 2: the last hidden states of its text encoder, `hidden` of shape (B, L, D)."""
    length = min(pipe.tokenizer.model_max_length, pipe.text_encoder.config.max_position_embeddings)
    ids = pipe.tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return {"hidden": pipe.text_encoder(ids.to(pipe.text_encoder.device)).last_hidden_state}


def called_hidden(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call a denoiser that is told hidden states alone."""
    output: Tensor = network(x_t, time, encoder_hidden_states=told["hidden"], return_dict=False)[0]
    return output


def told_class(classes: Classes, names: Sequence[str], side: int) -> Told:
    """Tell DiT the number of a class, `class` of shape (B,)."""
    return classes.conditions(names)


def called_class(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call DiT's transformer, which puts out a variance in the second half of its channels."""
    output: Tensor = network(x_t, timestep=time, class_labels=told["class"], return_dict=False)[0]
    return output


def told_xl(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell Stable Diffusion XL: hidden states of both encoders, the second's pooled ones, and the picture's sizes.

    `sizes` are original height and width, top and left of the crop, and wanted height and width, in pixels (Podell et
    al. 2024, section 2.2): the pictures of a dataset are whole.
    """
    hidden, _, pooled, _ = pipe.encode_prompt(list(captions), do_classifier_free_guidance=False)
    return {"hidden": hidden, "pooled": pooled, "sizes": _sizes(hidden, side)}


def untold_xl(pipe: Any, side: int) -> Told:
    """Tell it nothing: zeros where the pipeline says so (force_zeros_for_empty_prompt), else the empty caption."""
    told = told_xl(pipe, [""], side)
    if not pipe.config.force_zeros_for_empty_prompt:
        return told
    return told | {name: told[name].new_zeros(told[name].shape) for name in ("hidden", "pooled")}


def called_xl(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Stable Diffusion XL's denoiser."""
    more = {"text_embeds": told["pooled"], "time_ids": told["sizes"]}
    output: Tensor = network(
        x_t, time, encoder_hidden_states=told["hidden"], added_cond_kwargs=more, return_dict=False
    )[0]
    return output


def _sizes(like: Tensor, side: int) -> Tensor:
    return like.new_tensor([side, side, 0, 0, side, side]).expand(len(like), 6)


def told_joint(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell Stable Diffusion 3: the hidden states of its encoders one after the other, zeros for an absent T5's.

    `pooled` are those of both CLIP encoders.
    """
    words = list(captions)
    hidden, _, pooled, _ = pipe.encode_prompt(words, words, words, do_classifier_free_guidance=False)
    return {"hidden": hidden, "pooled": pooled}


def called_joint(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Stable Diffusion 3's transformer."""
    output: Tensor = network(
        hidden_states=x_t, timestep=time, encoder_hidden_states=told["hidden"], pooled_projections=told["pooled"],
        return_dict=False,
    )[0]  # fmt: skip
    return output


def told_flux(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell Flux: T5's hidden states, and the pooled ones of CLIP."""
    hidden, pooled, _ = pipe.encode_prompt(list(captions), list(captions))
    return {"hidden": hidden, "pooled": pooled}


def called_flux(network: Any, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Flux's transformer: 2 x 2 latents are a token, whose place is told, and time runs to 1.

    A distilled one (guidance_embeds) is told the guidance, 1 unless it is told another.
    """
    pictures, channels, height, width = x_t.shape
    h, w = height // 2, width // 2
    tokens = x_t.view(pictures, channels, h, 2, w, 2).permute(0, 2, 4, 1, 3, 5).reshape(pictures, h * w, 4 * channels)
    places = x_t.new_zeros(h, w, 3)
    places[..., 1] += x_t.new_ones(h).cumsum(0)[:, None] - 1
    places[..., 2] += x_t.new_ones(w).cumsum(0) - 1
    guidance = told.get("guidance", x_t.new_ones(pictures))
    output: Tensor = network(
        hidden_states=tokens, timestep=time / 1000, guidance=guidance if network.config.guidance_embeds else None,
        encoder_hidden_states=told["hidden"], pooled_projections=told["pooled"], img_ids=places.view(-1, 3),
        txt_ids=x_t.new_zeros(told["hidden"].shape[1], 3), return_dict=False,
    )[0]  # fmt: skip
    return output.view(pictures, h, w, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x_t.shape)


def told_masked(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell PixArt, Sana or Lumina 2: hidden states, and which of them are of words (`mask`)."""
    more = {}
    if (own := signature(pipe.__call__).parameters.get("complex_human_instruction")) is not None:
        more["complex_human_instruction"] = own.default
    hidden, mask, _, _ = pipe.encode_prompt(list(captions), do_classifier_free_guidance=False, **more)
    return {"hidden": hidden, "mask": mask}


def untold_masked(pipe: Any, side: int) -> Told:
    """Tell them nothing: the negative caption "", which goes without the instructions before a caption."""
    _, _, hidden, mask = pipe.encode_prompt([""], do_classifier_free_guidance=True, negative_prompt="")
    return {"hidden": hidden, "mask": mask}


def told_pixart(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell PixArt the same, and the height and width of the picture, which its larger models ask for."""
    told = told_masked(pipe, captions, side)
    return told | {"sizes": told["hidden"].new_tensor([side, side]).expand(len(told["hidden"]), 2)}


def called_pixart(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call PixArt's transformer, whose output has its variance in the second half of the channels."""
    sizes = told["sizes"]
    output: Tensor = network(
        x_t, encoder_hidden_states=told["hidden"], encoder_attention_mask=told["mask"], timestep=time,
        added_cond_kwargs={"resolution": sizes, "aspect_ratio": sizes[:, :1] / sizes[:, 1:]}, return_dict=False,
    )[0]  # fmt: skip
    return output[:, : x_t.shape[1]]


def called_sana(network: Any, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Sana's transformer, which counts time in steps of its own."""
    output: Tensor = network(
        x_t, encoder_hidden_states=told["hidden"], encoder_attention_mask=told["mask"],
        timestep=time * network.config.timestep_scale, return_dict=False,
    )[0]  # fmt: skip
    return output[:, : x_t.shape[1]]


def called_lumina(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Lumina 2's transformer, whose time is 1 at the picture, and whose output goes from noise to picture."""
    output: Tensor = network(
        hidden_states=x_t, timestep=1 - time / 1000, encoder_hidden_states=told["hidden"],
        encoder_attention_mask=told["mask"], return_dict=False,
    )[0]  # fmt: skip
    return -output


def told_list(pipe: Any, captions: Sequence[str], side: int) -> Told:
    """Tell Z-Image: hidden states of as many tokens as a caption has, padded with zeros, and which are of words."""
    found, _ = pipe.encode_prompt(list(captions), do_classifier_free_guidance=False)
    hidden = found[0].new_zeros(len(found), Z_TOKENS, found[0].shape[1])
    mask = hidden.new_zeros(hidden.shape[:2]).bool()
    for row, one in enumerate(found):
        hidden[row, : len(one)], mask[row, : len(one)] = one, True
    return {"hidden": hidden, "mask": mask}


def called_list(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call Z-Image's transformer: lists of pictures of one frame, time 1 at the picture, its output turned round."""
    words = [hidden[mask] for hidden, mask in zip(told["hidden"], told["mask"], strict=True)]
    found: list[Tensor] = network(list(x_t.unsqueeze(2).unbind()), 1 - time / 1000, words, return_dict=False)[0]
    output = found[0].new_zeros(len(found), *found[0].shape)
    for row, one in enumerate(found):
        output[row] = one
    return -output.squeeze(2)
