"""The text-to-image models that open here: one table, a row a pipeline class of diffusers. No torch here.

A row says what differs between them: which folder holds the denoiser and of which class it is, which text encoders
there are, how they tell the denoiser a caption and how it is called (`text_calls`), which layers LoRA weights go to.
Latents, training, sampling, features and losses are one path for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dtrak_core.errors import DataError
from dtrak_core.models import text_calls
from dtrak_core.models.model_files import DIFFUSERS, TRANSFORMERS, config_of
from dtrak_core.models.settings import Sampled

UNET, ATTENTION = "UNet2DConditionModel", ("to_q", "to_k", "to_v", "to_out.0")
BLOCKS = (  # of a U-Net, the layers beside its attention
    "conv1", "conv2", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj", "conv_shortcut"
)  # fmt: skip
JOINT = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")  # of words beside pictures
CLIP, POOLED = ("CLIPTextModel", "CLIPModel"), ("CLIPTextModelWithProjection",)
T5 = ("T5EncoderModel", "T5ForConditionalGeneration")
GEMMA, QWEN = ("Gemma2Model", "Gemma2ForCausalLM"), ("Qwen3Model", "Qwen3ForCausalLM")
AUTO = "AutoTokenizer"
RENAMED = {"Lumina2Text2ImgPipeline": "Lumina2Pipeline"}  # as diffusers called it before 0.33


@dataclass(frozen=True)
class Encoder:
    """A text encoder: its folder, that of its tokenizer, and the classes of its weights, the first is opened."""

    part: str
    tokenizer: str
    classes: tuple[str, ...]
    tokenized: str = "CLIPTokenizer"
    optional: bool = False


@dataclass(frozen=True)
class Family:
    """One kind of text-to-image model.

    `told` gives the named tensors of captions, `untold` those of none; `call` calls the denoiser. `extra` are settings
    of its config that may be there; `fixed` what its pipeline sets in the scheduler, whatever the file says. `side` is
    that of its pictures where its config says none, latents' sides must divide by `patch`, and the denoiser sees
    `packed` of their values as one. `loaded_as` is the pipeline class whose LoRA files are its too, where its own reads
    none. `guidance` and `steps` are those of its pipeline; one whose config has the setting `told_guidance` was
    distilled and is told it, and without that setting goes without, in `few` steps. Where it `flows`, it predicts flow,
    else noise, picture or v; `evenly` says how its pipeline spaces noise levels (flow.py). One that is told a class
    instead of a caption (`by_class`) has no text encoders, and names its classes in model_index.json. `also` are older
    names of the denoiser's class.
    """

    name: str
    pipeline: str
    part: str
    network: str
    encoders: tuple[Encoder, ...]
    told: Callable[..., text_calls.Told]
    call: Callable[..., Any]
    untold: Callable[..., text_calls.Told] | None = None
    targets: tuple[str, ...] = ATTENTION
    extra: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    side: int = 0
    patch: int = 1
    packed: int = 1
    loaded_as: str = ""
    guidance: float = 7.5
    steps: int = 50
    told_guidance: str = ""
    few: int = 4
    flows: bool = False
    evenly: bool = False
    by_class: bool = False
    also: tuple[str, ...] = ()

    @property
    def loader(self) -> str:
        """Return the pipeline class that reads and writes its LoRA files."""
        return self.loaded_as or self.pipeline

    @property
    def layers(self) -> tuple[str, ...]:
        """Return all layers that LoRA weights may go to: those of a U-Net's blocks; of a transformer its attention."""
        return (*self.targets, *BLOCKS) if self.network == UNET else self.targets

    def usual(self, config: Mapping[str, Any]) -> Sampled:
        """Return how pictures are drawn where nothing is said, by the denoiser's config: steps and guidance."""
        if self.told_guidance and not config.get(self.told_guidance):
            return Sampled(sampling_steps=self.few, guidance=1.0)
        return Sampled(sampling_steps=self.steps, guidance=self.guidance)

    @property
    def stems(self) -> dict[str, tuple[str, str]]:
        """Return the parts with weights, and how the names of their files begin."""
        return {self.part: DIFFUSERS, "vae": DIFFUSERS} | {one.part: TRANSFORMERS for one in self.encoders}

    @property
    def adapted(self) -> tuple[str, ...]:
        """Return the text encoders that LoRA weights may change too: CLIP's, as diffusers has it."""
        return tuple(one.part for one in self.encoders if one.tokenized == "CLIPTokenizer")

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the networks that LoRA weights may change: the denoiser, and those text encoders."""
        return (self.part, *self.adapted)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the folders that a pipeline is made of."""
        return (*self.stems, *(one.tokenizer for one in self.encoders), "scheduler")


FAMILIES: dict[str, Family] = {
    family.pipeline: family
    for family in (
        Family(
            "Stable Diffusion 1 or 2",
            "StableDiffusionPipeline",
            "unet",
            UNET,
            (Encoder("text_encoder", "tokenizer", CLIP),),
            text_calls.told_hidden,
            text_calls.called_hidden,
            fixed={"steps_offset": 1, "clip_sample": False},
        ),
        Family(
            "Stable Diffusion XL",
            "StableDiffusionXLPipeline",
            "unet",
            UNET,
            (
                Encoder("text_encoder", "tokenizer", CLIP),
                Encoder("text_encoder_2", "tokenizer_2", POOLED),
            ),
            text_calls.told_xl,
            text_calls.called_xl,
            text_calls.untold_xl,
            extra=("addition_embed_type",),
            guidance=5.0,
        ),
        Family(
            "Stable Diffusion 3",
            "StableDiffusion3Pipeline",
            "transformer",
            "SD3Transformer2DModel",
            (
                Encoder("text_encoder", "tokenizer", POOLED),
                Encoder("text_encoder_2", "tokenizer_2", POOLED),
                Encoder("text_encoder_3", "tokenizer_3", T5, AUTO, optional=True),
            ),
            text_calls.told_joint,
            text_calls.called_joint,
            targets=JOINT,
            patch=2,
            guidance=7.0,
            steps=28,
            flows=True,
        ),
        Family(
            "Flux.1",
            "FluxPipeline",
            "transformer",
            "FluxTransformer2DModel",
            (Encoder("text_encoder", "tokenizer", CLIP), Encoder("text_encoder_2", "tokenizer_2", T5, AUTO)),
            text_calls.told_flux,
            text_calls.called_flux,
            targets=JOINT,
            side=1024,
            patch=2,
            packed=4,
            guidance=3.5,
            steps=28,
            told_guidance="guidance_embeds",
            flows=True,
            evenly=True,
        ),
        *(
            Family(
                name,
                pipeline,
                "transformer",
                "PixArtTransformer2DModel",
                (Encoder("text_encoder", "tokenizer", T5, AUTO),),
                text_calls.told_pixart,
                text_calls.called_pixart,
                patch=2,
                loaded_as="StableDiffusion3Pipeline",
                guidance=4.5,
                steps=20,
                also=("Transformer2DModel",),
            )
            for name, pipeline in (("PixArt-α", "PixArtAlphaPipeline"), ("PixArt-Σ", "PixArtSigmaPipeline"))
        ),
        Family(
            "DiT",
            "DiTPipeline",
            "transformer",
            "DiTTransformer2DModel",
            (),
            text_calls.told_class,
            text_calls.called_class,
            patch=2,
            loaded_as="StableDiffusion3Pipeline",
            guidance=4.0,
            by_class=True,
            also=("Transformer2DModel",),
        ),
        Family(
            "Sana",
            "SanaPipeline",
            "transformer",
            "SanaTransformer2DModel",
            (Encoder("text_encoder", "tokenizer", GEMMA, AUTO),),
            text_calls.told_masked,
            text_calls.called_sana,
            text_calls.untold_masked,
            guidance=4.5,
            steps=20,
            flows=True,
        ),
        Family(
            "Lumina 2",
            "Lumina2Pipeline",
            "transformer",
            "Lumina2Transformer2DModel",
            (Encoder("text_encoder", "tokenizer", GEMMA, AUTO),),
            text_calls.told_masked,
            text_calls.called_lumina,
            text_calls.untold_masked,
            patch=2,
            guidance=4.0,
            steps=30,
            flows=True,
            evenly=True,
        ),
        Family(
            "Z-Image",
            "ZImagePipeline",
            "transformer",
            "ZImageTransformer2DModel",
            (Encoder("text_encoder", "tokenizer", QWEN, AUTO),),
            text_calls.told_list,
            text_calls.called_list,
            side=1024,
            patch=2,
            guidance=6.0,
            flows=True,
            evenly=True,
        ),
    )
}


def of(folder: Path, source: str) -> Family:
    """Return the family of a pipeline's folder, with the text encoders that it has.

    Raises:
        NotFoundError: If there is no model_index.json.
        DataError: If it is of no family here; the sentence says what would be needed.
    """
    index = config_of(folder / "model_index.json", folder, source)
    kind = str(index.get("_class_name", "pipeline of unknown class"))
    kind = RENAMED.get(kind, kind)
    if kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise DataError(
            f"'{source}' holds a {kind}. Text-to-image models of these classes can be used: {known}. Another needs a "
            "row of its own in the table of families, which says how it is told a caption and called."
        )
    family = FAMILIES[kind]
    held = (one for one in family.encoders if not one.optional or (folder / one.part).is_dir())
    return replace(family, encoders=tuple(held))
