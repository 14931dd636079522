"""Remove, retrain, regenerate with the same seed, compare (Zheng et al. 2024).

Each retrained model is stored (`retrained`), so that an interrupted comparison goes on with it, and draws every
target; what it makes of one is an `outcomes` artifact, so that results appear one by one; the whole is a
`comparisons` artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dtrak_core import store
from dtrak_core.counterfactual import comparisons, encoders, removals
from dtrak_core.counterfactual.distances import cosine, pixel_l2
from dtrak_core.counterfactual.entries import facts
from dtrak_core.counterfactual.removals import Wanted
from dtrak_core.counterfactual.settings import CounterfactualSettings, OutcomeSettings
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.errors import NotFoundError
from dtrak_core.features.losses import denoising_loss
from dtrak_core.methods import embeddings
from dtrak_core.methods.settings import EmbeddingSettings
from dtrak_core.models import networks, sampling
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import DIFFUSION_STEPS, SampleSettings
from dtrak_core.models.targets import PICTURE, Target, find_sample
from dtrak_core.progress import Count, Progress, onward
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact
from dtrak_core.training.retrained import retrained


def compare(
    dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, name: str, on_progress: Progress
) -> Artifact:
    """Compute a comparison of removals, going on from what is stored, and publish it.

    Args:
        dataset: The training set.
        checkpoint: The original model: its settings and seed train every model here.
        settings: Targets, methods, sizes, controls; scores and samples they need must be stored.
        name: What the comparison is called; not part of its key.
        on_progress: Called once a training step with unit "training steps", over all trainings together.

    Returns:
        Artifact of kind `comparisons`.

    Raises:
        NotFoundError: If a target or its scores are not stored.
        SettingsError: If the checkpoint cannot be trained again, or an encoder has other weights than were asked for.
    """
    settings = encoders.obtained(settings)
    key = key_of("comparisons", settings)
    with store.computing("comparisons", key, on_progress) as finished:
        return finished or _compared(dataset, checkpoint, settings, name, key, on_progress)


def _compared(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    name: str,
    key: str,
    on_progress: Progress,
) -> Artifact:
    wanted = removals.plan(dataset, checkpoint, settings)
    lacking = removals.lacking(wanted, settings)
    runs = {each: removals.retraining(dataset, checkpoint, *each) for each in lacking}
    original, unmoved = removals.original(checkpoint), networks.load_denoiser(checkpoint)
    loss_before = _losses(unmoved)
    steps = {each: 0 if each == original else run.steps(len(dataset.train.rows)) for each, run in runs.items()}
    before, trainings = 0, [each for each in runs if each != original]
    on_progress = onward(on_progress)
    for each, bars in lacking.items():
        place = f" {trainings.index(each) + 1} of {len(trainings)}" if each in trainings else ""
        about = f"Training{place}: {comparisons.about(bars)}"
        part = _part(on_progress, before, sum(steps.values()), about)
        denoiser = (
            unmoved
            if each == original
            else retrained(dataset, runs[each], part, lambda: [runs[one] for one in trainings])
        )
        _outcomes(denoiser, unmoved, loss_before, bars, settings, _while_drawing(part, steps[each]))
        before += steps[each]
    return _publish(wanted, settings, name, key)


def retrain(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    removed: tuple[int, ...],
    train_seed: int,
    on_progress: Progress,
    workers: int = 1,
) -> None:
    """Train one of a comparison's models and store what becomes of the targets that wait for it; as `compare` does.

    `workers` do so at once (retrained.py).
    """
    settings = encoders.obtained(settings)
    lacking = removals.lacking(removals.plan(dataset, checkpoint, settings), settings)
    if (bars := lacking.get((removed, train_seed))) is not None:
        run = removals.retraining(dataset, checkpoint, removed, train_seed)
        drawing = _while_drawing(on_progress, run.steps(len(dataset.train.rows)))
        unmoved, own = networks.load_denoiser(checkpoint), removals.original(checkpoint)
        moved = retrained(
            dataset,
            run,
            on_progress,
            lambda: [removals.retraining(dataset, checkpoint, *one) for one in lacking if one != own],
            workers,
        )
        _outcomes(moved, unmoved, _losses(unmoved), bars, settings, drawing)


def _outcomes(
    denoiser: Denoiser,
    unmoved: Denoiser,
    loss_before: Callable[[OutcomeSettings], float],
    bars: Sequence[Wanted],
    settings: CounterfactualSettings,
    on_progress: Count,
) -> None:
    """Regenerate the targets of a model, one by one, and store what became of them.

    One by one, so that a picture does not depend on which others are still to be drawn.

    Args:
        denoiser: The model.
        unmoved: The original.
        loss_before: Loss of a target under the original model.
        bars: What is wanted of the model.
        settings: The comparison's settings.
        on_progress: Called with the number of targets drawn and their total.
    """
    wanted = list(dict.fromkeys(removals.outcome_of(w, settings) for w in bars))
    for number, outcome in enumerate(wanted):
        on_progress(number, len(wanted))
        with store.computing("outcomes", key_of("outcomes", outcome)) as found:
            if found is None:
                _outcome(denoiser, unmoved, loss_before, outcome)


def _outcome(
    denoiser: Denoiser, unmoved: Denoiser, loss_before: Callable[[OutcomeSettings], float], outcome: OutcomeSettings
) -> None:
    target, drawn = _original(outcome), outcome.sample
    steps, eta, prompts, guidance = drawn.sampling_steps, drawn.eta, drawn.prompts, drawn.guidance
    before = sampling.Before(unmoved, outcome.take_over) if outcome.take_over < DIFFUSION_STEPS else None
    image = sampling.generate(
        denoiser, [drawn.seed], drawn.sampler, steps, eta, prompts=prompts, guidance=guidance, before=before
    )[0]
    pair = np.stack([target.image, image])
    encoder = EmbeddingSettings(model=outcome.encoder, weights=outcome.encoder_weights, pixels=target.pixels)
    seen = embeddings.embed(pair, encoder)
    loss = denoising_loss(denoiser, target, outcome.num_timesteps, outcome.noise_seed)
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
        loss_change=loss - loss_before(outcome),
        **_latent_distance(denoiser, pair),
    )


def _losses(unmoved: Denoiser) -> Callable[[OutcomeSettings], float]:
    """Return what gives a target's loss under the original model, which is computed once for all models."""
    known: dict[SampleSettings, float] = {}

    def loss(outcome: OutcomeSettings) -> float:
        if outcome.sample not in known:
            target = _original(outcome)
            known[outcome.sample] = denoising_loss(unmoved, target, outcome.num_timesteps, outcome.noise_seed)
        return known[outcome.sample]

    return loss


def _original(outcome: OutcomeSettings) -> Target:
    """Return the target's own picture."""
    target = find_sample(outcome.sample)
    if target is None:
        raise NotFoundError(f"The picture of seed {outcome.sample.seed} is not there any more. Generate it again.")
    return target


def _while_drawing(on_progress: Progress, steps: int) -> Count:
    """Return progress of a model's drawing, which comes after all of its training steps."""
    return lambda done, total: on_progress(steps, steps, "training steps", f"Target {done + 1} of {total}")


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
    store.write_json(folder / comparisons.ENTRIES, [facts(entry) for entry in entries])
    store.write_array(folder / comparisons.IMAGES, np.stack([entry.image for entry in entries]))
    own = [find_sample(removals.sample_of(target, settings)) for target in settings.targets]
    store.write_array(folder / comparisons.ORIGINALS, np.stack([target.image for target in own if target is not None]))
    return store.publish("comparisons", key, settings, name=name, encoder=settings.encoder)


def _part(on_progress: Progress, before: int, total: int, about: str) -> Progress:
    return lambda done, _total, unit, message: on_progress(before + done, total, unit, f"{about}. {message}")
