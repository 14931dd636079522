"""EK-FAC influence against explicit matrices in float64, built draw by draw from plain gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws
from dtrak_core.methods import costs, ekfac, scores
from dtrak_core.methods import settings as settings_of_methods
from dtrak_core.methods.settings import influence_settings
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.process import rectified
from dtrak_core.models.settings import Prediction
from dtrak_core.models.targets import resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of


@pytest.fixture
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    return networks.load_denoiser(checkpoints.by_digest(checkpoint.digest))


def plain_draws(denoiser: Denoiser, images: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return x_t, t and what is sent back of each draw, one at a time."""
    found = []
    for i, image in enumerate(images):
        for j in range(ekfac.DRAWS_A_PICTURE):
            t = j * 250 + (i * 37) % 250
            eps = torch.from_numpy(draws.noise(0, f"curvature/{i}", [t], denoiser.shape))
            abar = denoiser.process.alphas_cumprod[t]
            x_t = abar.sqrt() * denoiser.encode(np.asarray(image)[None]) + (1 - abar).sqrt() * eps
            back = torch.from_numpy(draws.noise(0, f"back/{i}", [j], denoiser.shape))
            if denoiser.process.prediction == "sample":
                back = back * min(1 / (1 - float(abar)), 400) ** 0.5
            found.append((x_t, torch.tensor([t]), back * (2 / back.numel()) ** 0.5))
    return found


@pytest.mark.parametrize(("name", "prediction"), [("conv_in", "noise"), ("time_embedding.linear_1", "sample")])
def test_a_layers_curvature_and_what_it_does_to_a_gradient(
    pictures: Dataset, denoiser: Denoiser, name: str, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = replace(denoiser, process=replace(denoiser.process, prediction=prediction))
    images = pictures.train.images[:5]
    monkeypatch.setattr(ekfac, "AT_ONCE", 3)
    monkeypatch.setattr(ekfac, "UNFOLDED_BYTES", 2**16)  # two draws of conv_in, one of the time embedding
    layers = ekfac.curvature(denoiser, images, 0, quiet)
    layer = denoiser.network.get_submodule(name)
    names = [n for n, _ in tracked_parameters(denoiser.network)]
    order = np.cumsum([0] + [p.numel() for _, p in tracked_parameters(denoiser.network)])
    begin = order[names.index(f"{name}.weight")]
    mine = next(one for one in layers if one.weight.start == begin)

    inputs, gradients, outers = [], [], []
    for x_t, t, back in plain_draws(denoiser, images):
        seen: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _m, i, o, seen=seen: seen.extend([i[0], o]))
        output = denoiser.predict(x_t, t)
        handle.remove()
        weights = torch.autograd.grad((output * back).sum(), [layer.weight, layer.bias, seen[1]])
        if isinstance(layer, nn.Conv2d):
            a = functional.unfold(seen[0], layer.kernel_size, padding=layer.padding)[0].T
            b = weights[2][0].flatten(1).T
        else:
            a, b = seen[0].reshape(-1, seen[0].shape[-1]), weights[2].reshape(-1, weights[2].shape[-1])
        inputs.append(functional.pad(a, (0, 1), value=1.0).detach().double().numpy())
        outers.append(b.double().numpy())
        matrix = torch.cat([weights[0].flatten(1), weights[1][:, None]], 1).double().numpy()
        np.testing.assert_allclose(outers[-1].T @ inputs[-1], matrix, atol=1e-5)
        gradients.append(matrix)
    q_a, q_b = mine.inputs.double().numpy(), mine.outputs.double().numpy()
    first, second = sum(a.T @ a for a in inputs), sum(b.T @ b for b in outers)
    for basis, factor in ((q_a, first), (q_b, second)):
        np.testing.assert_allclose(basis.T @ basis, np.eye(len(basis)), atol=1e-5)
        turned = basis.T @ factor @ basis
        assert np.abs(turned - np.diag(np.diag(turned))).max() < 1e-4 * np.abs(turned).max()
    values = np.mean([(q_b.T @ g @ q_a) ** 2 for g in gradients], axis=0)
    np.testing.assert_allclose(mine.values.numpy(), values, atol=1e-4 * values.max())

    # The whole matrix of the layer, written out as a Kronecker product and solved.
    both = np.kron(q_b, q_a)
    dense = both @ np.diag(values.ravel()) @ both.T + 0.1 * values.mean() * np.eye(values.size)
    gradient = torch.zeros(1, order[-1])
    gradient[0, mine.weight] = torch.from_numpy(gradients[0][:, :-1].ravel()).float()
    assert mine.bias is not None
    gradient[0, mine.bias] = torch.from_numpy(gradients[0][:, -1]).float()
    solved = np.linalg.solve(dense, gradients[0].ravel()).reshape(gradients[0].shape)
    found = ekfac.preconditioned(gradient, [mine], 0.1)[0].numpy()
    np.testing.assert_allclose(found[mine.weight], solved[:, :-1].ravel(), atol=2e-3 * np.abs(solved).max())
    np.testing.assert_allclose(found[mine.bias], solved[:, -1], atol=2e-3 * np.abs(solved).max())
    outside = np.delete(found, np.r_[mine.weight, mine.bias])
    assert not outside.any()


@pytest.mark.parametrize("prediction", ["noise", "sample", "flow"])
def test_gradients_are_those_of_the_training_loss(
    pictures: Dataset, denoiser: Denoiser, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = replace(denoiser.process, prediction=prediction)
    if prediction == "flow":
        process = rectified(torch.arange(1, 41) / 40, 40)
    denoiser = replace(denoiser, process=process)
    few = replace(
        pictures, train=replace(pictures.train, images=pictures.train.images[:2], rows=pictures.train.rows[:2])
    )
    monkeypatch.setattr(ekfac, "preconditioned", lambda gradients, *_: gradients)
    target = resolve(pictures, "", "held-out:1")
    settings = influence_settings(few.digest, "0" * 16, prediction, 1000, target.id, target.pixels)
    settings = settings.model_copy(update={"num_timesteps": 2})
    found = ekfac.influence(denoiser, few, [target], [], settings, quiet)

    def gradient(image: np.ndarray, name: str) -> torch.Tensor:
        x0, total = denoiser.encode(image[None]), torch.zeros(())
        for t in (0, process.steps // 2):
            eps = torch.from_numpy(draws.noise(0, name, [t], denoiser.shape))
            a, s = process.a[t], process.s[t]
            f = denoiser.network(a * x0 + s * eps, process.times[t][None]).sample
            y = {"noise": eps, "sample": x0, "flow": eps - x0}[prediction]
            total = total + (min(1 / float(s) ** 2, 400) if prediction == "sample" else 1) * (f - y).square().mean() / 2
        flat = torch.autograd.grad(total, [p for _, p in tracked_parameters(denoiser.network)], allow_unused=True)
        return torch.cat([one.flatten() for one in flat if one is not None])

    own = gradient(target.image, target.id)
    expected = [float(own @ gradient(image, f"train:{i}")) for i, image in enumerate(few.train.images)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-3)


def test_scores_are_products_with_the_training_gradients(
    pictures: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [resolve(pictures, checkpoint.digest, name) for name in ("held-out:1", "train:6", "held-out:2")]
    made = ekfac.compute(pictures, checkpoint.digest, denoiser, chosen, quiet)
    scores = np.stack([np.asarray(one.array("scores.npy")) for one in made])
    assert scores.shape == (3, 24)
    assert scores[1].argmax() == 6, "a training picture helps itself most"
    for one in made:  # computed again in groups of one target
        for file in one.path.iterdir():
            file.unlink()
        one.path.rmdir()
    monkeypatch.setattr(settings_of_methods, "TARGET_BYTES", 1)
    store.listing("ekfac")
    again = ekfac.compute(pictures, checkpoint.digest, denoiser, chosen, quiet)
    np.testing.assert_allclose(
        np.stack([np.asarray(o.array("scores.npy")) for o in again]), scores, rtol=1e-3, atol=1e-6
    )


def test_many_targets_cost_little_more_than_one_while_a_pass_holds_them(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(count: int) -> costs.Cost:
        about = (pictures.digest, checkpoint.digest, "noise", 1000)
        wanted = [influence_settings(*about, f"seed:{number}", f"{number:016x}") for number in range(count)]
        return scores.estimate(pictures, checkpoint, [("ekfac", key_of("ekfac", one), one) for one in wanted])

    monkeypatch.setattr(costs.Here, "pictures", 5000)
    one, many = estimate(1), estimate(48)
    assert one.seconds < many.seconds < 1.1 * one.seconds
    assert many.disk == 48 * one.disk == 48 * 8 * 5000
    monkeypatch.setattr(settings_of_methods, "TARGET_BYTES", 12 * 4 * checkpoint.run.manifest["parameters"])
    assert 3 * one.seconds < estimate(48).seconds < 4 * one.seconds, "four passes, one curvature"
