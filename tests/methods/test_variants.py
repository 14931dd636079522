"""The methods that change one thing about TRAK, against computations written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import drawing, work
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features import batches, draws, feature_store, features, kernel
from dtrak_core.features import settings as settings_of_features
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import ALONE, FeatureSettings, TargetSide, ends_of, feature_target
from dtrak_core.jobs import asking
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.lds.recipes import Recipe, method_for
from dtrak_core.methods import ekfac, scores, target_scores
from dtrak_core.methods import settings as settings_of_methods
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import InfluenceSettings, influence_settings
from dtrak_core.models import checkpoints, networks, sampling, speeds, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import Prediction, Sampled, SampleSettings
from dtrak_core.models.targets import Target, resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of


@pytest.fixture
def base(pictures: Dataset, checkpoint: Checkpoint) -> FeatureSettings:
    return FeatureSettings(
        dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=4, projection="none", proj_dim=64
    )


def answered(method: str, pictures: Dataset, base: FeatureSettings, name: str = "held-out:3") -> np.ndarray:
    """Compute what a method needs by the real job, and return its scores of a target."""
    chosen = METHODS[method]
    wanted = tuple(scores.models_of(chosen, pictures.digest, base.checkpoint, base))
    drawn = {"targets": (name,), "sampling_steps": 4, "pictures_of": base.checkpoint}
    work.run(build(AttributeJob, features=wanted, **drawn, **chosen.side.model_dump()), quiet)
    target = resolve(pictures, base.checkpoint, name, Sampled(sampling_steps=4))
    assert scores.needed(method, pictures, base.checkpoint, target, base) == []
    return scores.attribution_scores(method, pictures, base.checkpoint, target, base).values


def stored(settings: FeatureSettings, target: Target, side: TargetSide) -> tuple[np.ndarray, np.ndarray]:
    """Return Φ (N, K) and φ(z) (K,), float64."""
    trained = store.get("features", key_of("features", settings))
    rows = np.concatenate([rows for _, rows in feature_store.blocks(trained)]).astype(np.float64)
    own = store.get("target-features", key_of("target-features", feature_target(settings, target, side)))
    return rows, feature_store.target_feature(own)


def ridge(rows: np.ndarray, share: float) -> np.ndarray:
    """Return A = (ΦᵀΦ + λ I)⁻¹ with an effective rank of `share` of N, by bisection on the dense matrix."""
    values = np.linalg.eigvalsh(rows.T @ rows).clip(0)
    low, high = 1e-20, 1e6
    for _ in range(200):
        middle = np.sqrt(low * high)
        if (values / (values + middle)).sum() > share * len(rows):
            low = middle
        else:
            high = middle
    return np.linalg.inv(rows.T @ rows + low * np.eye(rows.shape[1]))


@pytest.mark.parametrize("method", ["relative-if", "renormalised-if", "das", "das-squared"])
def test_damped_variants_are_their_formulas(pictures: Dataset, base: FeatureSettings, method: str) -> None:
    narrow = base.model_copy(update={"projection": "gaussian"})
    values = answered(method, pictures, narrow)
    chosen = METHODS[method]
    target = resolve(pictures, narrow.checkpoint, "held-out:3")
    settings = scores.feature_settings(chosen, pictures.digest, narrow.checkpoint, narrow)
    rows, z = stored(settings, target, chosen.side)
    inverse = ridge(rows, chosen.rank_share or 0)
    plain = rows @ inverse @ z
    if method == "relative-if":
        expected = plain / np.linalg.norm(rows @ inverse, axis=1)
    elif method == "renormalised-if":
        expected = plain / np.linalg.norm(rows, axis=1)
    else:
        leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
        assert (leverage < 1).all()
        expected = plain * residuals(pictures, narrow) / (1 - leverage)
        expected = expected**2 if chosen.squared else expected
    np.testing.assert_allclose(values, expected, atol=2e-4 * np.abs(expected).max())


def residuals(pictures: Dataset, settings: FeatureSettings) -> np.ndarray:
    """Return the mean over draws of the root of each picture's own loss, one draw at a time."""
    denoiser = networks.load_denoiser(checkpoints.by_digest(settings.checkpoint))
    found = []
    for i, image in enumerate(pictures.train.images):
        x0 = denoiser.encode(np.asarray(image)[None])
        each = []
        for t in draws.timesteps("uniform", settings.num_timesteps):
            eps = torch.from_numpy(draws.noise(settings.noise_seed, f"train:{i}", [int(t)], denoiser.shape))
            abar = denoiser.process.alphas_cumprod[int(t)]
            with torch.no_grad():
                e = denoiser.predict(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, torch.tensor([int(t)]))
            each.append(float((e - eps).pow(2).mean().sqrt()))
        found.append(np.mean(each))
    return np.array(found)


def test_normalised_features_are_means_of_directions(pictures: Dataset, base: FeatureSettings) -> None:
    denoiser = networks.load_denoiser(checkpoints.by_digest(base.checkpoint))
    settings = base.model_copy(update={"normalise": "timestep", "model_output": "loss"})
    image = np.asarray(pictures.train.images[:3])
    ids = ["train:0", "train:1", "train:2"]
    found = features.featurise(denoiser, image, ids, settings, lambda _: None)
    single = features.featurise(denoiser, image[1:2], ids[1:2], settings, lambda _: None)
    np.testing.assert_allclose(single[0], found[1], atol=1e-6)
    parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
    total = np.zeros(found.shape[1])
    for t in draws.timesteps("uniform", 4):
        eps = torch.from_numpy(draws.noise(0, "train:1", [int(t)], denoiser.shape))
        abar = denoiser.process.alphas_cumprod[int(t)]
        x_t = abar.sqrt() * denoiser.encode(image[1:2]) + (1 - abar).sqrt() * eps
        loss = (denoiser.predict(x_t, torch.tensor([int(t)])) - eps).pow(2).mean()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).double().numpy()
        total += gradient / np.linalg.norm(gradient) / 4
    np.testing.assert_allclose(found[1], total, atol=1e-5)


@pytest.mark.parametrize("method", ["tracin-cp", "gas"])
def test_checkpoints_are_averaged(
    pictures: Dataset, base: FeatureSettings, checkpoint: Checkpoint, method: str
) -> None:
    values = answered(method, pictures, base, "seed:2")
    target = resolve(pictures, base.checkpoint, "seed:2", Sampled(sampling_steps=4))
    shares, expected = [], []
    for one in checkpoints.of_run(checkpoint.run):
        settings = base.model_copy(update={"checkpoint": one.digest, "model_output": "loss"})
        rows, z = stored(settings, target, TargetSide())
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(z) if method == "gas" else 1
        expected.append(rows @ z / lengths)
        shares.append(one.share)
    assert sorted(shares) == [25, 50, 75, 100]
    np.testing.assert_allclose(values, np.mean(expected, axis=0), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("names", "undamped"),
    [(("gradient-dot",), (0,)), (("gradient-dot", "trak"), ()), (("d-trak", "gradient-dot"), (1,)), (("trak",), ())],
)
def test_a_job_says_which_features_need_no_kernel(
    pictures: Dataset, base: FeatureSettings, names: tuple[str, ...], undamped: tuple[int, ...]
) -> None:
    target = resolve(pictures, base.checkpoint, "held-out:1")
    plans = [scores.resolve(name, pictures, base.checkpoint, [target], base) for name in names]
    (job,) = asking.jobs_for(plans, Sampled())
    assert isinstance(job, AttributeJob)
    assert job.undamped == undamped
    assert ("undamped" in job.model_dump(mode="json")) == bool(undamped), "keys of the other jobs stay as they were"
    work.run(job, quiet)
    stored = {artifact.settings["model_output"] for artifact in store.listing("kernels")}
    read = {METHODS[name].model_output for name in names if METHODS[name].reads_kernel}
    assert stored == read


def test_journey_trak_follows_the_sampling(pictures: Dataset, base: FeatureSettings) -> None:
    answered("journey-trak", pictures, base, "seed:2")
    target = resolve(pictures, base.checkpoint, "seed:2", Sampled(sampling_steps=4))
    settings = base.model_copy(update={"model_output": "loss"})
    _, z = stored(settings, target, METHODS["journey-trak"].side)
    denoiser = networks.load_denoiser(checkpoints.by_digest(base.checkpoint))
    x = torch.randn(denoiser.shape, generator=torch.Generator().manual_seed(2))[None]
    parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
    total = np.zeros(len(z))
    for t in (750, 500, 250, 0):
        abar = denoiser.process.alphas_cumprod[t]
        before = denoiser.process.alphas_cumprod[t - 250] if t else torch.tensor(1.0)
        with torch.no_grad():
            e = denoiser.predict(x, torch.tensor([t]))
        x0 = ((x - (1 - abar).sqrt() * e) / abar.sqrt()).clamp(-1, 1)
        x = before.sqrt() * x0 + (1 - before).sqrt() * e
        eps = torch.from_numpy(draws.noise(0, "journey/seed:2", [t], denoiser.shape))
        loss = (denoiser.predict(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, torch.tensor([t])) - eps).pow(2).mean()
        total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).double().numpy() / 4
    np.testing.assert_allclose(z, total, atol=1e-4 * np.abs(total).max())
    np.testing.assert_array_equal(denoiser.decode(x), sampling.generate(denoiser, [2], "ddim", 4, 0.0))
    with pytest.raises(SettingsError, match="no DDIM trajectory"):
        answered("journey-trak", pictures, base)


@pytest.mark.parametrize("method", ["trak", "journey-trak", "ek-fac"])
def test_as_many_gradients_are_told_as_were_taken(
    pictures: Dataset, base: FeatureSettings, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def counting(
        denoiser: Denoiser, x0: torch.Tensor, ids: list[str], settings: FeatureSettings, **more: Any
    ) -> torch.Tensor:
        grid = more.get("grid")
        counted.append(len(ids) * (settings.num_timesteps if grid is None else len(grid)))
        return per_example_gradients(denoiser, x0, ids, settings, **more)

    def short(dataset: str, checkpoint: str, prediction: Prediction, _: int, *target: str) -> InfluenceSettings:
        return influence_settings(dataset, checkpoint, prediction, 20, *target)

    for module in (batches, features, ekfac):
        monkeypatch.setattr(module, "per_example_gradients", counting)
    for module in (target_scores, ekfac):  # as if the schedule had 20 timesteps
        monkeypatch.setattr(module, "influence_settings", short)
    monkeypatch.setattr(settings_of_methods, "TARGET_BYTES", 1)
    monkeypatch.setattr(settings_of_features, "target_draws", lambda digest: 16)  # four noises
    drawing.generate_missing(("seed:2", "seed:3"), base.checkpoint, Sampled(sampling_steps=5), quiet)
    own = [resolve(pictures, base.checkpoint, name, Sampled(sampling_steps=5)) for name in ("seed:2", "seed:3")]
    plan = scores.resolve(method, pictures, base.checkpoint, own, base)
    family_of(plan.method).compute(plan, quiet)
    each = {"trak": (4, 4 * 4), "journey-trak": (4, 5), "ek-fac": (2 * 20, 20)}[method]  # EK-FAC passes twice
    assert family_of(plan.method).spent(plan)[0] == sum(counted) == 24 * each[0] + 2 * each[1]
    made = [one.manifest["gradients"] for one in store.listing("target-features")]
    assert made == ([] if method == "ek-fac" else [each[1]] * 2)


def test_both_sides_may_have_a_function_of_their_own(pictures: Dataset, base: FeatureSettings) -> None:
    side = TargetSide(target_output="loss")
    settings = base.model_copy(update={"model_output": "squared-output"})
    drawn = {"targets": ("held-out:3",), **side.model_dump()}
    work.run(build(AttributeJob, features=(settings,), **drawn), quiet)
    target = resolve(pictures, base.checkpoint, "held-out:3")
    _, mixed = stored(settings, target, side)
    other = base.model_copy(update={"model_output": "loss"})
    work.run(build(AttributeJob, features=(other,), targets=("held-out:3",)), quiet)
    _, loss = stored(other, target, TargetSide())
    np.testing.assert_array_equal(mixed, loss)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_interpolated_features_are_mixed_from_both_ends(pictures: Dataset, base: FeatureSettings, eta: float) -> None:
    denoiser = networks.load_denoiser(checkpoints.by_digest(base.checkpoint))
    wanted = base.model_copy(update={"model_output": "interpolated", "eta": eta, "projection": "sparse"})
    direct = features.featurise(
        denoiser, np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)], wanted, lambda _: None
    )
    counted: list[int] = []
    for end in ("squared-output", "loss"):
        one = wanted.model_copy(update={"model_output": end, "eta": 0.0})
        features.compute_features(pictures, denoiser, one, quiet)
    mixed = features.compute_features(pictures, denoiser, wanted, lambda done, *_: counted.append(done))
    rows = np.concatenate([rows for _, rows in feature_store.blocks(mixed)])
    np.testing.assert_allclose(rows, direct, atol=1e-5 * np.abs(direct).max())
    assert counted == [], "no gradient was taken"
    target = resolve(pictures, base.checkpoint, "held-out:3")
    alone = features.featurise(denoiser, target.image[None], [target.id], wanted, lambda _: None)
    for end in ends_of(wanted):
        features.compute_target_features(denoiser, end, [target], quiet)
    (own,) = features.compute_target_features(denoiser, wanted, [target], quiet)
    np.testing.assert_allclose(feature_store.target_feature(own), alone[0], atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("normalise", [None, "timestep"])
def test_all_that_an_interpolation_needs_is_there_once_it_is_computed(
    pictures: Dataset, checkpoint: Checkpoint, base: FeatureSettings, normalise: str | None
) -> None:
    recipe = Recipe(method="d-trak", features=base, model_output="interpolated", eta=0.3, normalise=normalise)
    target = resolve(pictures, base.checkpoint, "held-out:3")
    plan = scores.resolve(method_for(recipe), pictures, base.checkpoint, [target], base)
    gradients = scores.estimate(pictures, checkpoint, plan.missing).by_name["features"]
    each = speeds.gradient(checkpoint).seconds * 4 * 25
    assert gradients == pytest.approx(each * (2 if normalise is None else ALONE)), "a mixture takes those of its ends"
    made = family_of(plan.method).compute(plan, quiet)
    assert {one.key for one in made} <= {key for _, key, _ in plan.missing}
    again = scores.resolve(method_for(recipe), pictures, base.checkpoint, [target], base)
    assert (again.missing, again.refused) == ((), "")
    assert scores.score(again).values.shape == (1, 24)


def test_leverage_is_the_hat_matrix_diagonal() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(40, 30))
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    opened = kernel.Kernel(s**2, u[:, :16], u[:, 16:].astype(np.float32), np.linalg.norm(rows, axis=1))
    found = kernel.squared_sums(opened, opened.eigenvalues / (opened.eigenvalues + 3.0))
    hat = rows @ np.linalg.solve(rows.T @ rows + 3.0 * np.eye(30), rows.T)
    np.testing.assert_allclose(found, np.diag(hat), rtol=1e-5)


def test_what_cannot_be_answered_is_refused_in_a_sentence(
    pictures: Dataset, base: FeatureSettings, checkpoint: Checkpoint
) -> None:
    held_out = resolve(pictures, base.checkpoint, "held-out:3")
    assert "was not" in scores.refusal(METHODS["journey-trak"], base.checkpoint, held_out)
    by_ddpm = targets.publish_sample(
        SampleSettings(checkpoint=base.checkpoint, seed=0, sampler="ddpm"), pictures.train.images[0]
    )
    assert "'seed:0' has no DDIM trajectory" in scores.refusal(METHODS["journey-trak"], base.checkpoint, by_ddpm)
    assert "Model 1 of 4" in scores.refusal(METHODS["d-trak-ensemble"], base.checkpoint)
    assert scores.refusal(METHODS["gas"], base.checkpoint) == ""
    with pytest.raises(NotFoundError, match="ensemble is not trained yet"):
        scores.models_of(METHODS["trak-ensemble"], pictures.digest, base.checkpoint, base)
