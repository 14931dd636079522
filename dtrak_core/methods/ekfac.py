"""Influence functions by EK-FAC: the curvature of every layer in its own eigenbasis, no random projection.

    score(z, i) = Σ_layers < u_l(z), ∇_l ℓ(x_i) >,    u = Q_B [ (Q_Bᵀ ∇_l ℓ(z) Q_A) / (Λ + δ_l) ] Q_Aᵀ

(Mlodozeniec et al., ICLR 2025; George et al. 2018.) ℓ is the denoising loss, mean over draws,
as the training weighs it by timestep (`Process.loss_weights`: w_t is 1 unless the network predicts the clean picture).
For a layer with inputs a (bias: a 1 at the end) and output gradients b at each position,

    A = E Σ a aᵀ = Q_A · Q_Aᵀ,   B = E Σ b bᵀ = Q_B · Q_Bᵀ,   Λ = E (Q_Bᵀ G Q_A)²,   G = Σ b aᵀ of one draw

over draws of the training set, with b the gradient of a pseudo-loss whose second moment is the Gauss-Newton matrix of
ℓ: noise N(0, 2 w_t/d) sent back from the network's output. δ_l is a share of the layer's mean curvature, so that one
setting suits every layer and no benchmark is needed to choose it. Linear and convolution layers count; the few numbers
of normalisation layers, and the rows of an embedding of classes, do not; the first as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws, model_outputs
from dtrak_core.features.gradients import draws_for, per_example_gradients, pictures_per_batch, watched
from dtrak_core.features.settings import FeatureSettings, target_name
from dtrak_core.methods.settings import InfluenceSettings, influence_at_once, influence_settings
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.targets import Target
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

DRAWS_A_PICTURE = 4  # for the curvature
AT_ONCE = 32  # draws in one pass, fewer where `draws_for` says so
UNFOLDED_BYTES = 2**27  # memory for what a layer's weights meet: a picture's patches repeat its numbers nine times

Layer: TypeAlias = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Curvature:
    """One layer: Q_A (I, I), Q_B (O, O), Λ (O, I), and where its weight and bias lie among the parameters."""

    inputs: Tensor
    outputs: Tensor
    values: Tensor
    weight: slice
    bias: slice | None


def compute(
    dataset: Dataset, checkpoint: str, denoiser: Denoiser, targets: Sequence[Target], on_progress: Progress
) -> list[Artifact]:
    """Return the scores of targets, computing those that are not stored.

    The curvature and the training set's gradients are computed again for every call; ask for many targets at once.

    Returns:
        Artifacts of kind `ekfac`: scores.npy (N,), float64.
    """
    process = denoiser.process
    about = (dataset.digest, checkpoint, process.prediction, process.steps)
    wanted = [influence_settings(*about, target.id, target.pixels) for target in targets]
    keys = [key_of("ekfac", one) for one in wanted]
    if (made := store.every("ekfac", keys)) is not None:
        return made
    with store.computing("ekfac", checkpoint, on_progress):  # one lock for all targets, whose passes are shared
        missing = {k: (s, t) for k, s, t in zip(keys, wanted, targets, strict=True) if store.find("ekfac", k) is None}
        if not missing:
            return [store.get("ekfac", key) for key in keys]
        settings = next(iter(missing.values()))[0]
        layers = curvature(denoiser, dataset.train.images, settings.noise_seed, on_progress, _told(denoiser, dataset))
        at_once = influence_at_once(sum(p.numel() for _, p in tracked_parameters(denoiser.network)))
        left = list(missing.items())
        for start in range(0, len(left), at_once):
            part = left[start : start + at_once]
            scores = influence(denoiser, dataset, [t for _, (_, t) in part], layers, settings, on_progress)
            for (key, (one, _)), row in zip(part, scores, strict=True):
                store.write_array(store.partial("ekfac", key) / "scores.npy", row)
                store.publish("ekfac", key, one)
    return [store.get("ekfac", key) for key in keys]


def influence(
    denoiser: Denoiser,
    dataset: Dataset,
    targets: Sequence[Target],
    layers: Sequence[Curvature],
    settings: InfluenceSettings,
    on_progress: Progress,
) -> np.ndarray:
    """Return the scores of targets, shape (M, N), float64, in one pass over the training set's gradients."""
    features = FeatureSettings(
        dataset=dataset.digest,
        checkpoint=settings.checkpoint,
        model_output="loss",
        num_timesteps=settings.num_timesteps,
        noise_seed=settings.noise_seed,
    )
    size, loss = pictures_per_batch(denoiser, settings.num_timesteps), model_outputs.training_loss(denoiser.process)

    def gradients(images: np.ndarray, ids: Sequence[str], prompts: Sequence[str]) -> Iterator[Tensor]:
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            x0 = denoiser.encode(np.asarray(images[part])).to(denoiser.weight)
            told = denoiser.conditions(prompts[part])
            yield per_example_gradients(denoiser, x0, ids[part], features, condition=told, own=loss)

    own = gradients(
        np.stack([t.image for t in targets]),
        [target_name(t.id) for t in targets],
        [denoiser.told(t.row) for t in targets],
    )
    directions = torch.cat([preconditioned(part, layers, settings.damping) for part in own])
    images = dataset.train.images
    scores = np.empty((len(targets), len(images)))
    done = 0
    for part in gradients(images, [f"train:{i}" for i in range(len(images))], _told(denoiser, dataset)):
        scores[:, done : done + len(part)] = (directions @ part.T).cpu().numpy()
        done += len(part)
        on_progress(done * settings.num_timesteps, len(images) * settings.num_timesteps, "gradients", "EK-FAC")
    return scores


def preconditioned(gradients: Tensor, layers: Sequence[Curvature], damping: float) -> Tensor:
    """Return (curvature + δ)⁻¹ applied to gradients (B, P); parameters of other layers become 0."""
    found = torch.zeros_like(gradients)
    for layer in layers:
        out = layer.values.shape[0]
        matrix = gradients[:, layer.weight].reshape(len(gradients), out, -1)
        if layer.bias is not None:
            matrix = torch.cat([matrix, gradients[:, layer.bias].unsqueeze(2)], 2)
        delta = damping * layer.values.mean()
        if not delta > 0:  # a layer that nothing reaches
            continue
        turned = layer.outputs.T @ matrix @ layer.inputs / (layer.values + delta)
        matrix = layer.outputs @ turned @ layer.inputs.T
        if layer.bias is not None:
            found[:, layer.bias] = matrix[:, :, -1]
            matrix = matrix[:, :, :-1]
        found[:, layer.weight] = matrix.reshape(len(gradients), -1)
    return found


def _told(denoiser: Denoiser, dataset: Dataset) -> list[str]:
    return [denoiser.told(row) for row in dataset.train.rows]


def curvature(
    denoiser: Denoiser, images: np.ndarray, noise_seed: int, on_progress: Progress, prompts: Sequence[str] = ()
) -> list[Curvature]:
    """Return the curvature of every linear and convolution layer, in two passes over draws of the training set."""
    known = [m for m in denoiser.network.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight.requires_grad]
    sums: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def factors(layer: Layer, a: Tensor, b: Tensor) -> None:
        inner, outer = (x.flatten(0, 1) for x in (a, b))
        one = (inner.T @ inner, outer.T @ outer)
        sums[layer] = one if layer not in sums else (sums[layer][0] + one[0], sums[layer][1] + one[1])

    total = 2 * DRAWS_A_PICTURE * len(images)
    _passes(
        denoiser, images, prompts, noise_seed, known, factors, lambda n: on_progress(n, total, "draws", "Curvature")
    )
    bases = {layer: [_eigenvectors(one) for one in pair] for layer, pair in sums.items()}
    squares: dict[nn.Module, Tensor] = {}

    def values(layer: Layer, a: Tensor, b: Tensor) -> None:
        inner, outer = bases[layer]
        one = ((b @ outer).transpose(1, 2) @ (a @ inner)).square().sum(0)
        squares[layer] = one if layer not in squares else squares[layer] + one

    half = total // 2
    _passes(
        denoiser,
        images,
        prompts,
        noise_seed,
        known,
        values,
        lambda n: on_progress(half + n, total, "draws", "Curvature"),
    )
    places, start = {}, 0
    for _, parameter in tracked_parameters(denoiser.network):
        places[id(parameter)] = slice(start, start + parameter.numel())
        start += parameter.numel()
    return [
        Curvature(
            bases[m][0],
            bases[m][1],
            squares[m] / half,
            places[id(m.weight)],
            None if m.bias is None else places[id(m.bias)],
        )
        for m in known
        if m in squares
    ]


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Return the eigenvectors of a symmetric matrix, in its format; found on the CPU, since MPS has no float64."""
    found: Tensor = torch.linalg.eigh(matrix.cpu().double())[1]
    return found.to(matrix)


def _passes(
    denoiser: Denoiser,
    images: np.ndarray,
    prompts: Sequence[str],
    noise_seed: int,
    known: Sequence[nn.Module],
    use: Callable[[Layer, Tensor, Tensor], None],
    on_progress: Callable[[int], None],
) -> None:
    """Send draws through the network and noise back; give each layer's inputs (n, L, I) and gradients (n, L, O)."""
    numbers = [(i, j) for i in range(len(images)) for j in range(DRAWS_A_PICTURE)]
    at_once = min(AT_ONCE, draws_for(denoiser))
    with _met(known, use):
        for start in range(0, len(numbers), at_once):
            part = numbers[start : start + at_once]
            on_progress(start)
            # Stratified: a picture's draws lie in different quarters, and all timesteps occur over the set.
            t = torch.tensor([_timestep(i, j, denoiser.process.steps) for i, j in part])
            eps = torch.from_numpy(
                np.concatenate(
                    [
                        draws.noise(noise_seed, f"curvature/{i}", [when], denoiser.shape)
                        for (i, _), when in zip(part, t.tolist(), strict=True)
                    ]
                )
            )
            where = denoiser.weight
            x0 = denoiser.encode(np.stack([images[i] for i, _ in part])).to(where)
            eps, t = eps.to(where), t.to(where.device)
            told = denoiser.conditions([prompts[i] if prompts else "" for i, _ in part])
            back = np.concatenate([draws.noise(noise_seed, f"back/{i}", [j], denoiser.shape) for i, j in part])
            prediction = denoiser.predict(denoiser.process.noised(x0, eps, t), t, told)
            size = prediction[0].numel()
            roots = denoiser.process.loss_weights(t).sqrt().view(-1, 1, 1, 1)
            prediction.backward(torch.from_numpy(back).to(where) * (2 / size) ** 0.5 * roots)
            for parameter in denoiser.network.parameters():
                parameter.grad = None


def _timestep(picture: int, number: int, length: int) -> int:
    width = max(1, length // DRAWS_A_PICTURE)
    return number * length // DRAWS_A_PICTURE + (picture * 37) % width


@contextmanager
def _met(known: Sequence[nn.Module], use: Callable[[Layer, Tensor, Tensor], None]) -> Iterator[None]:
    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        x = inputs[0].detach().to(layer.weight)
        output.register_hook(lambda g: meet(layer, x, _outputs(layer, g.detach().to(layer.weight))))

    def meet(layer: Layer, x: Tensor, b: Tensor) -> None:
        one = b.shape[1] * (layer.weight[0].numel() + 1) * x.element_size()  # bytes of a draw
        at_once = max(1, UNFOLDED_BYTES // one)
        for x_part, b_part in zip(x.split(at_once), b.split(at_once), strict=True):
            use(layer, _inputs(layer, x_part), b_part)

    with watched(known, watch):
        yield


def _inputs(layer: Layer, x: Tensor) -> Tensor:
    """Return what a layer's weights meet at each position, shape (n, L, I), with a 1 at the end where it has a bias."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)  # diffusers' layers give numbers
        seen = functional.unfold(
            x, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride
        ).transpose(1, 2)
    else:
        seen = x.reshape(len(x), -1, x.shape[-1])
    return seen if layer.bias is None else functional.pad(seen, (0, 1), value=1.0)


def _outputs(layer: Layer, g: Tensor) -> Tensor:
    """Return the gradient at each position of a layer's output, shape (n, L, O)."""
    return g.flatten(2).transpose(1, 2) if isinstance(layer, nn.Conv2d) else g.reshape(len(g), -1, g.shape[-1])
