"""Pixel-space denoisers: build, save in diffusers' layout, load, and what attribution tracks.

A denoiser predicts the noise eps in x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (DDPM,
linear beta 1e-4 .. 0.02 over 1,000 steps; reference.md 2.1). It works in *model space*: the
picture in [-1, 1], with each fold x fold block of pixels moved into channels. Everything
else in the core (training, sampling, features) speaks to a network through `Denoiser`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from dtrak_core import store
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.settings import DIFFUSION_STEPS, ModelSettings, digest_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
BETA_START, BETA_END = 1e-4, 0.02


@dataclass(frozen=True)
class Denoiser:
    """A noise-prediction network with its schedule, in eval mode.

    `shape` is (C, H, W) in model space; `betas` and `alphas_cumprod` have shape (1000,), float32.
    """

    unet: nn.Module
    betas: Tensor
    alphas_cumprod: Tensor
    fold: int
    shape: tuple[int, int, int]

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in `x_t` (B, C, H, W) at timesteps `t` (B,), int64."""
        output: Tensor = self.unet(x_t, t, return_dict=False)[0]
        return output

    def encode(self, images: np.ndarray) -> Tensor:
        """Bring pictures (B, H, W, 3), uint8, into model space: float32 in [-1, 1], folded."""
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return functional.pixel_unshuffle(pixels, self.fold) if self.fold > 1 else pixels

    def decode(self, x: Tensor) -> np.ndarray:
        """Bring model space back to pictures (B, H, W, 3), uint8, rounded as the paper's PNGs are."""
        pixels = functional.pixel_shuffle(x, self.fold) if self.fold > 1 else x
        scaled = (pixels.clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
        images: np.ndarray = scaled.permute(0, 2, 3, 1).contiguous().numpy()
        return images


def build_unet(model: ModelSettings, resolution: int) -> UNet2DModel:
    """Make an untrained network. Weights come from torch's global generator; seed it first.

    Raises:
        SettingsError: If the picture cannot be halved as often as the network has levels.
    """
    halvings = model.fold * 2 ** (len(model.channels) - 1)
    if resolution % halvings:
        raise SettingsError(
            f"Resolution {resolution} cannot be folded by {model.fold} and halved {len(model.channels) - 1} times. "
            f"Choose a multiple of {halvings}."
        )
    planes = 3 * model.fold**2
    down = ["AttnDownBlock2D" if attended else "DownBlock2D" for attended in model.attention]
    up = ["AttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(model.attention)]
    unet = UNet2DModel(
        sample_size=resolution // model.fold,
        in_channels=planes,
        out_channels=planes,
        block_out_channels=model.channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=model.layers_per_block,
        add_attention=model.mid_attention,
        attention_head_dim=model.head_dim,
        # Without it, current diffusers drops the mid attention's norm under scale_shift; the paper's version had it.
        attn_norm_num_groups=model.norm_groups,
        norm_num_groups=model.norm_groups,
        norm_eps=model.norm_eps,
        dropout=model.dropout,
        resnet_time_scale_shift=model.time_scale_shift,
        downsample_padding=model.downsample_padding,
        flip_sin_to_cos=model.flip_sin_to_cos,
        freq_shift=model.freq_shift,
    )
    for module in unet.modules():  # the paper's code sets all of them, those of the attention too
        if isinstance(module, nn.Dropout):
            module.p = model.dropout
    return unet


def denoiser_of(unet: UNet2DModel, scheduler: DDPMScheduler, fold: int) -> Denoiser:
    """Pair a network with its schedule. The network is used as it is: the caller sets its mode."""
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return Denoiser(unet, scheduler.betas, scheduler.alphas_cumprod, fold, (unet.config.in_channels, height, width))


def default_scheduler() -> DDPMScheduler:
    """Return the paper's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=DIFFUSION_STEPS, beta_schedule="linear", beta_start=BETA_START, beta_end=BETA_END
    )


def tracked_parameters(unet: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters whose gradients are features, in the network's own order."""
    return [(name, parameter) for name, parameter in unet.named_parameters() if parameter.requires_grad]


def add_noise(denoiser: Denoiser, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps for x0, noise (B, C, H, W) and t (B,)."""
    abar = denoiser.alphas_cumprod[t].view(-1, 1, 1, 1)
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


def save_pipeline(unet: UNet2DModel, folder: Path, dtype: torch.dtype, scheduler: DDPMScheduler | None = None) -> str:
    """Write network and schedule so that `DDPMPipeline.from_pretrained(folder)` opens them.

    A folded network is opened there in its folded form: its pictures have 3 fold^2 channels.

    Returns:
        Digest of the weights as written.
    """
    weights = {name: value.detach().to(dtype).contiguous() for name, value in unet.state_dict().items()}
    store.write_bytes(folder / "unet" / WEIGHTS, save(weights, metadata={"format": "pt"}))
    config: dict[str, Any] = json.loads(unet.to_json_string())
    store.write_json(folder / "unet" / "config.json", config)
    schedule = json.loads((scheduler or default_scheduler()).to_json_string())
    store.write_json(folder / "scheduler" / "scheduler_config.json", schedule)
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": config["_diffusers_version"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    store.write_json(folder / "model_index.json", index)
    return weights_digest(unet, dtype)


def weights_digest(unet: nn.Module, dtype: torch.dtype = torch.float32) -> str:
    """Return the digest of all weights, by name, as stored in `dtype`."""
    parts: list[bytes | str] = []
    for name, value in sorted(unet.state_dict().items()):
        parts += [name, value.detach().to(dtype).contiguous().view(-1).view(torch.uint8).numpy().tobytes()]
    return digest_of(*parts)


def load_denoiser(checkpoint: Checkpoint) -> Denoiser:
    """Open a stored checkpoint: weights in float32, eval mode, gradients on.

    Raises:
        StoreError: If the weights are damaged.
        DataError: If the files are not a noise-predicting DDPM.
    """
    relative = checkpoint.folder.relative_to(checkpoint.run.path).as_posix()
    weights = load_file(checkpoint.run.file(f"{relative}/unet/{WEIGHTS}"))
    config = json.loads(checkpoint.run.file(f"{relative}/unet/config.json").read_bytes())
    schedule = json.loads(checkpoint.run.file(f"{relative}/scheduler/scheduler_config.json").read_bytes())
    return assemble(config, weights, schedule, checkpoint.fold)


def assemble(config: dict[str, Any], weights: dict[str, Tensor], schedule: dict[str, Any], fold: int) -> Denoiser:
    """Make a denoiser from a diffusers UNet2DModel config, its weights and its scheduler config."""
    if schedule.get("prediction_type", "epsilon") != "epsilon":
        raise DataError(
            f"This checkpoint predicts '{schedule['prediction_type']}'. The model output functions are "
            "defined for noise prediction; use a checkpoint with prediction_type 'epsilon'."
        )
    if schedule.get("num_train_timesteps", DIFFUSION_STEPS) != DIFFUSION_STEPS:
        raise DataError(
            f"This checkpoint has a schedule of {schedule['num_train_timesteps']} steps. "
            f"Timesteps are counted on {DIFFUSION_STEPS}; use such a checkpoint."
        )
    unet: UNet2DModel = UNet2DModel.from_config(config)
    if unet.config.in_channels != unet.config.out_channels:
        raise DataError(
            f"This network has {unet.config.in_channels} input and {unet.config.out_channels} output channels. "
            "Only networks that predict the noise alone can be opened, not its variance."
        )
    try:
        unet.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(
            f"The weights do not fit the network that config.json describes: {first} "
            "Settings made in code (resnet_time_scale_shift) must be written into config.json."
        ) from None
    unet.eval()
    return denoiser_of(unet, DDPMScheduler.from_config(schedule), fold)
