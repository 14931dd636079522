"""Remove, retrain, regenerate with the same seed, compare (paper, section 5.3; reference.md, section 6).

Each retrained model is stored (`retrained`), so that an interrupted comparison goes on with it; what it makes of
a target is an `outcomes` artifact, so that results appear one by one; the whole is a `comparisons` artifact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core import (
    checkpoints,
    comparisons,
    draws,
    embeddings,
    losses,
    models,
    removals,
    sampling,
    store,
    thumbnails,
    training,
)
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset, image_digest
from dtrak_core.denoiser import Denoiser
from dtrak_core.metrics import cosine, pixel_l2
from dtrak_core.presets import steps_on
from dtrak_core.progress import Progress
from dtrak_core.removal_settings import CounterfactualSettings, OutcomeSettings
from dtrak_core.removals import Wanted
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact
from dtrak_core.targets import PICTURE, Target, find_sample
from dtrak_core.train_settings import TrainSettings


def compare(
    dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, name: str, progress: Progress
) -> Artifact:
    """Compute a comparison of removals, going on from what is stored, and publish it.

    Args:
        dataset: The training set.
        checkpoint: The original model: its settings and seed train every model here.
        settings: Targets, methods, sizes, controls; scores and samples they need must be stored.
        name: What the comparison is called; not part of its key.
        progress: Called once a training step with unit "training steps", over all trainings together.

    Returns:
        Artifact of kind `comparisons`.

    Raises:
        NotFoundError: If a target or its scores are not stored.
        SettingsError: If the checkpoint cannot be trained again.
    """
    key = key_of("comparisons", settings)
    with store.computing("comparisons", key, progress) as finished:
        return finished or _compared(dataset, checkpoint, settings, name, key, progress)


def _compared(
    dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, name: str, key: str, progress: Progress
) -> Artifact:
    wanted = removals.plan(dataset, checkpoint, settings)
    lacking = removals.lacking(wanted, settings)
    runs = {each: removals.retraining(dataset, checkpoint, *each) for each in lacking}
    original, unmoved = removals.original(checkpoint), models.load_denoiser(checkpoint)
    steps = {each: 0 if each == original else steps_on(run, len(dataset.train.rows)) for each, run in runs.items()}
    before, trainings = 0, [each for each in runs if each != original]
    for each, bars in lacking.items():
        place = f" {trainings.index(each) + 1} of {len(trainings)}" if each in trainings else ""
        about = f"Training{place}: {comparisons.about(bars)}"
        part = _part(progress, before, sum(steps.values()), about)
        denoiser = unmoved if each == original else retrained(dataset, runs[each], part)
        _outcomes(denoiser, unmoved, bars, settings)
        before += steps[each]
    return _publish(wanted, settings, name, key)


def retrain(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    removed: tuple[int, ...],
    train_seed: int,
    progress: Progress,
) -> None:
    """Train one of a comparison's models and store what becomes of the targets that wait for it; as `compare` does."""
    lacking = removals.lacking(removals.plan(dataset, checkpoint, settings), settings)
    if (bars := lacking.get((removed, train_seed))) is not None:
        run = removals.retraining(dataset, checkpoint, removed, train_seed)
        _outcomes(retrained(dataset, run, progress), models.load_denoiser(checkpoint), bars, settings)


def retrained(dataset: Dataset, run: TrainSettings, progress: Progress) -> Denoiser:
    """Return the model of a training that is no checkpoint of the user's, trained now unless it is stored."""
    trained = training.train(dataset, run, "retrained", progress, kind="retrained")
    return models.load_denoiser(checkpoints.of_run(trained)[-1])


def denoising_loss(denoiser: Denoiser, target: Target, num_timesteps: int, noise_seed: int) -> float:
    """Return a target's mean of (1/d) ||eps_theta(x_t, t) - eps||^2 over uniform timesteps, one noise each."""
    grid = draws.timesteps("uniform", num_timesteps)
    return float(losses.of_draws(denoiser, target.image, target.id, grid, noise_seed, target.prompt).mean())


def _outcomes(denoiser: Denoiser, unmoved: Denoiser, bars: Sequence[Wanted], settings: CounterfactualSettings) -> None:
    """Regenerate the targets of a model, one by one as they were asked for, and store what became of them."""
    for outcome in dict.fromkeys(removals.outcome_of(w, settings) for w in bars):
        with store.computing("outcomes", key_of("outcomes", outcome)) as found:
            if found is None:
                _outcome(denoiser, unmoved, outcome)


def _outcome(denoiser: Denoiser, unmoved: Denoiser, outcome: OutcomeSettings) -> None:
    target = find_sample(outcome.sample)
    assert target is not None  # the plan has read it
    how = outcome.sample
    image = sampling.generate(
        denoiser, [how.seed], how.sampler, how.sampling_steps, how.eta, prompts=how.prompts, guidance=how.guidance
    )[0]
    pair = np.stack([target.image, image])
    seen = embeddings.embed(pair, embeddings.settings_of(outcome.encoder, target.pixels))
    draws_of = (target, outcome.num_timesteps, outcome.noise_seed)
    loss, loss_before = denoising_loss(denoiser, *draws_of), denoising_loss(unmoved, *draws_of)
    key = key_of("outcomes", outcome)
    store.write_bytes(store.partial("outcomes", key) / PICTURE, thumbnails.png(image))
    store.publish(
        "outcomes",
        key,
        outcome,
        pixels=image_digest(image),
        l2=pixel_l2(target.image, image),
        cosine=cosine(seen[0], seen[1]),
        loss=loss,
        loss_change=loss - loss_before,
        **_latent_distance(denoiser, pair),
    )


def _latent_distance(denoiser: Denoiser, pair: np.ndarray) -> dict[str, float]:
    """Return ||a - b||_2 of two pictures' unscaled latent modes, as the paper measures ArtBench; nothing for pixels."""
    if denoiser.text is None:
        return {}
    a, b = denoiser.text.latents(pair)
    return {"latent_l2": float((a - b).norm())}


def _publish(wanted: Sequence[Wanted], settings: CounterfactualSettings, name: str, key: str) -> Artifact:
    found = [comparisons.entry_of(w, settings) for w in wanted]
    entries = [entry for entry in found if entry is not None]
    folder = store.partial("comparisons", key)
    store.write_json(folder / comparisons.ENTRIES, [comparisons.facts(entry) for entry in entries])
    store.write_array(folder / comparisons.IMAGES, np.stack([entry.image for entry in entries]))
    own = [find_sample(removals.sample_of(target, settings)) for target in settings.targets]
    store.write_array(folder / comparisons.ORIGINALS, np.stack([target.image for target in own if target is not None]))
    return store.publish("comparisons", key, settings, name=name, encoder=settings.encoder)


def _part(progress: Progress, before: int, total: int, about: str) -> Progress:
    return lambda done, _total, unit, message: progress(before + done, total, unit, f"{about}. {message}")
