"""Per-example gradients: the raw feature of a picture, before projection.

    g(x) = (1/T) Σ_t ∇_θ f(x, t, ε_t) / n_t    shape (P,), θ in `tracked_parameters` order

with n_t = 1, or the length of the draw's own gradient where settings normalise by timestep (large noise levels have
gradients of quite another size; Lin et al. 2025), f a model output function and one noise ε_t a timestep (Zheng et al.
2024, section 3). All T draws of several pictures go through the network as one batch. One backward pass
then carries the gradient to every layer's output; hooks there form each
picture's own weight gradient from the layer's input and output gradient, while the
ordinary weight gradients, which would sum over pictures, are switched off (layer_gradients.py).

A network with any other kind of trained layer is differentiated picture by picture, which
costs more and gives the same numbers. Neither knows of projections or of the store.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dtrak_core.features import draws, layer_gradients, model_outputs
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser, tracked_parameters

DRAWS_AT_ONCE = 320  # enough to fill the cores with the smallest network, measured with 2
ACTIVATION_BYTES = 2**30  # memory for one pass's activations; docs/scale.md states it
GRADIENT_BYTES = 2**28  # memory for one batch of gradients
DRAWS_ON_GPU = 4096
ACTIVATION_SHARE, GRADIENT_SHARE = 2, 16  # on a GPU: half and a sixteenth of its memory


def per_example_gradients(
    denoiser: Denoiser,
    x0: Tensor,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    draws_at_once: int | None = None,
    out: Tensor | None = None,
    grid: np.ndarray | None = None,
    condition: Condition = NOTHING,
    own: model_outputs.Output | None = None,
) -> Tensor:
    """Return the gradient of each picture's mean model output over its draws.

    The noise comes from (settings.noise_seed, sample id, timestep); nothing else is random.

    Args:
        denoiser: Network in eval mode.
        x0: Pictures in model space, shape (B, C, H, W); or one for each draw, shape (B, T, C, H, W).
        sample_ids: One id a picture: `train:17`, or a target's id.
        settings: Model output, timesteps and noise seed.
        draws_at_once: Draws in one pass, at least one a picture; default from `draws_for`.
        out: Memory of shape (B, P) to overwrite; taking it again and again saves a tenth of the time.
        grid: Timesteps of the draws; None takes those of the settings.
        condition: What the network is told of each picture.
        own: Model output function that replaces that of the settings.

    Returns:
        Gradients, shape (B, P), in the dtype of the weights.
    """
    parameters = tracked_parameters(denoiser.network)
    collect = _collect_by_hooks if has_known_layers(denoiser.network) else _collect_by_picture
    if grid is None:
        grid = draws.timesteps(settings.timestep_strategy, settings.num_timesteps, denoiser.process.steps)
    at_once, value = draws_at_once or draws_for(denoiser), own or model_outputs.of_settings(settings, denoiser.process)
    if settings.normalise == "timestep":  # every draw's gradient is held
        held = _budget(x0.device)[2] // (4 * sum(p.numel() for _, p in parameters))
        at_once = min(at_once, max(1, held))
    width = max(1, at_once // len(x0))
    total = x0.new_empty(len(x0), sum(p.numel() for _, p in parameters)) if out is None else out
    total.zero_()
    for start in range(0, len(grid), width):
        part = grid[start : start + width]
        noise = torch.stack(
            [torch.from_numpy(draws.noise(settings.noise_seed, i, part, x0.shape[-3:])) for i in sample_ids]
        )
        eps = noise.to(x0).flatten(0, 1)
        t = torch.from_numpy(part).to(x0.device).repeat(len(x0))
        clean = x0[:, start : start + width].flatten(0, 1) if x0.dim() == 5 else x0.repeat_interleave(len(part), 0)
        x_t, told = denoiser.process.noised(clean, eps, t), condition.repeated(len(part))
        both = (eps, clean)

        def summed(
            rows: slice,
            x_t: Tensor = x_t,
            both: tuple[Tensor, Tensor] = both,
            t: Tensor = t,
            told: Condition = told,
        ) -> Tensor:
            output = denoiser.predict(x_t[rows], t[rows], told.rows(rows))
            return value(output, both[0][rows], both[1][rows], t[rows]).sum() / len(grid)

        if settings.normalise == "none":
            collect(denoiser.network, parameters, summed, len(part), total)
            continue
        each = x0.new_zeros(len(x0) * len(part), total.shape[1])
        collect(denoiser.network, parameters, summed, 1, each)
        # A draw whose gradient is zero has no direction to add.
        each /= (len(grid) * torch.linalg.vector_norm(each, dim=1, keepdim=True)).clamp_min(1e-30)
        total += each.view(len(x0), len(part), -1).sum(1)
    return total


def has_known_layers(unet: nn.Module) -> bool:
    """Say whether every trained parameter belongs to a layer that the hooks know."""
    return all(layer_gradients.known(layer) for layer in unet.modules() if _own(layer))


def draws_for(denoiser: Denoiser) -> int:
    """Return how many draws to send through the network at once: a busy device within the memory of `_budget`.

    At least one, whatever it takes. It holds for passes without gradients too, which need less.
    """
    if denoiser.network not in _BYTES:
        _BYTES[denoiser.network] = _bytes_of_a_draw(denoiser)
    one = 2 * _BYTES[denoiser.network]  # twice: the gradient of an activation is as large as the activation
    most, activations, _ = _budget(denoiser.weight.device)
    return max(1, min(most, activations // one, _FITTED.get(denoiser.network, most)))


def _budget(where: torch.device) -> tuple[int, int, int]:
    """Return how many draws a pass has at most on a device, and the bytes for its activations and for gradients."""
    if where.type != "cuda":
        return DRAWS_AT_ONCE, ACTIVATION_BYTES, GRADIENT_BYTES
    memory = torch.cuda.get_device_properties(where).total_memory
    return DRAWS_ON_GPU, memory // ACTIVATION_SHARE, memory // GRADIENT_SHARE


def fewer_draws(denoiser: Denoiser) -> bool:
    """Halve what `draws_for` says of a network, whose memory ran out; say whether that was possible."""
    now = draws_for(denoiser)
    _FITTED[denoiser.network] = max(1, now // 2)
    return now > 1


# Only as long as the network itself lives: a cache that held it would hold its weights.
_BYTES: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
_FITTED: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()  # draws, since more did not fit


def _bytes_of_a_draw(denoiser: Denoiser) -> int:
    """Count the bytes that the layers put out in a forward pass of a single draw."""
    size = 0

    def count(_: nn.Module, __: object, output: object) -> None:
        nonlocal size
        size += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    layers = [layer for layer in denoiser.network.modules() if not list(layer.children())]
    weight = denoiser.weight
    with watched(layers, count), torch.no_grad():
        zero = torch.zeros(1, dtype=torch.long, device=weight.device)
        denoiser.predict(weight.new_zeros(1, *denoiser.shape), zero, denoiser.conditions([denoiser.usual]))
    return max(1, size)


@contextlib.contextmanager
def watched(layers: Iterable[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    """Let a forward hook (layer, inputs, output) see what passes through layers, for a while."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pictures_per_batch(denoiser: Denoiser, num_timesteps: int) -> int:
    """Return how many pictures to featurise together: about `draws_for` draws, bounded gradients."""
    parameters = sum(p.numel() for _, p in tracked_parameters(denoiser.network))
    by_memory = _budget(denoiser.weight.device)[2] // (4 * parameters)
    return max(1, min(draws_for(denoiser) // num_timesteps, by_memory))


def _collect_by_picture(
    unet: nn.Module,
    parameters: list[tuple[str, nn.Parameter]],
    summed: Callable[[slice], Tensor],
    width: int,
    total: Tensor,
) -> None:
    """Add each picture's gradient to its row of `total` (B, P): one backward pass a picture."""
    for row, out in enumerate(total):
        value = summed(slice(row * width, (row + 1) * width))
        gradients = torch.autograd.grad(value, [p for _, p in parameters], allow_unused=True)
        for view, gradient in zip(out.split([p.numel() for _, p in parameters]), gradients, strict=True):
            if gradient is not None:
                view += gradient.reshape(-1)


def _collect_by_hooks(
    unet: nn.Module,
    parameters: list[tuple[str, nn.Parameter]],
    summed: Callable[[slice], Tensor],
    width: int,
    total: Tensor,
) -> None:
    """Add each picture's gradient to its row of `total` (B, P): one backward pass for all pictures."""
    columns = total.split([p.numel() for _, p in parameters], dim=1)
    views = {id(p): view for (_, p), view in zip(parameters, columns, strict=True)}

    def watch(layer: layer_gradients.Known, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # The first layers' inputs need no gradient, so their outputs start the graph.
        if not output.requires_grad:
            output.requires_grad_()
        x = inputs[0].detach()
        output.register_hook(lambda g: layer_gradients.add(layer, x, g, width, views))

    trained = (layer for layer in unet.modules() if _own(layer))
    with watched(trained, watch), _weight_gradients_off([p for _, p in parameters]):
        summed(slice(None)).backward()


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters that the layer itself holds."""
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


@contextlib.contextmanager
def _weight_gradients_off(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
