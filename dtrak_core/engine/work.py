"""What is done for each kind of job, and for the parts of one; in a process of its own (`child_main.py`).

Each function calls the module that knows how, with that module's settings, and returns what it stored.
Modules with torch are imported when the first job needs them.
"""

from __future__ import annotations

from pathlib import Path

from dtrak_core.counterfactual import encoders, removals, trials
from dtrak_core.counterfactual.removal_sets import is_fixed
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.engine import drawing
from dtrak_core.engine.parts import Part
from dtrak_core.errors import SettingsError
from dtrak_core.features.fader_layout import Faders
from dtrak_core.features.settings import FeatureSettings, TargetSide, noise_seeds
from dtrak_core.jobs import asking
from dtrak_core.jobs.job_kinds import (
    AttributeJob,
    BaseJob,
    BenchmarkJob,
    CounterfactualJob,
    DatasetJob,
    EmbedJob,
    FaderJob,
    ImportJob,
    Job,
    LdsJob,
    LookJob,
    ProbeJob,
    SampleJob,
    ScoreJob,
    TrainJob,
)
from dtrak_core.jobs.question_jobs import MapJob, SuspicionJob, TrialJob
from dtrak_core.lds import subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import certainty, embeddings, fader_scores, maps, scores, suspicions, turned
from dtrak_core.methods.families import family_of
from dtrak_core.models import bases, checkpoints, open_models, targets
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact, find


def run(job: Job, on_progress: Progress) -> list[Artifact]:
    """Do a job; return the artifacts it asked for, made now or found in the store."""
    match job:
        case DatasetJob():
            return [_dataset(job, on_progress)]
        case TrainJob():
            from dtrak_core.training import training

            return [training.train(catalogue.by_digest(job.train.dataset), job.train, job.name, on_progress)]
        case ImportJob():
            from dtrak_core.models import importing, importing_text

            dataset = catalogue.by_digest(job.dataset)
            if job.base:
                base = bases.by_digest(job.base)
                return [importing_text.import_lora(job.source, base, dataset, job.name, on_progress, job.frozen)]
            importing_text.refuse_lora_alone(job.source)
            return [importing.import_checkpoint(job.source, dataset, job.name, on_progress)]
        case BaseJob():
            from dtrak_core.models import importing_text

            return [importing_text.import_base(job.source, job.name, on_progress, job.resolution)]
        case LookJob():
            from dtrak_core.models import recognising

            return [recognising.look(job.source, job.state, on_progress)]
        case ProbeJob():
            from dtrak_core.training import probes

            return [probes.probe(job.model, job.resolution, job.batch_size, on_progress, job.number)]
        case SampleJob():
            return drawing.samples(job.checkpoint, job.seeds, job, job.pictures_per_batch, on_progress)
        case AttributeJob():
            return _attribution(job, on_progress)
        case BenchmarkJob():
            return _benchmark(job, on_progress)
        case ScoreJob():
            return _own_scores(job, on_progress)
        case EmbedJob():
            return _embeddings(job, on_progress)
        case FaderJob():
            dataset, faders = catalogue.by_digest(job.features.dataset), Faders(job.layers, job.bands)
            target = targets.resolve(dataset, job.features.checkpoint, job.target, job)
            return turned.compute(job.features, [target], faders if job.layers else None)
        case CounterfactualJob():
            return [_counterfactual(job, on_progress)]
        case LdsJob():
            return _lds(job.settings, on_progress)
        case SuspicionJob():
            return [suspicions.compute(catalogue.by_digest(job.settings.dataset), job.settings, on_progress)]
        case TrialJob():
            return [trials.compute(catalogue.by_digest(job.settings.dataset), job.settings, on_progress)]
        case MapJob():
            return [maps.compute(job.settings, on_progress)]


def run_part(job: Job, part: Part, on_progress: Progress) -> None:
    """Do one part of a job beforehand; what it stores, `run` finds."""
    from dtrak_core.counterfactual import counterfactual
    from dtrak_core.features import features
    from dtrak_core.lds import subset_losses

    match job:
        case CounterfactualJob(settings=settings) if part.train_seed >= 0:
            dataset = catalogue.by_digest(settings.dataset, settings.facts)
            checkpoint = checkpoints.by_digest(settings.checkpoint, settings.dataset)
            counterfactual.retrain(
                dataset, checkpoint, settings, part.removed, part.train_seed, on_progress, part.workers
            )
        case AttributeJob() | CounterfactualJob() if part.shard >= 0:
            chosen = job.features if isinstance(job, AttributeJob) else job.settings.features
            one = chosen[part.features]
            denoiser = open_models.opened(checkpoints.by_digest(one.checkpoint))
            features.compute_shards(catalogue.by_digest(one.dataset), denoiser, one, [part.shard], on_progress)
        case CounterfactualJob(settings=settings):
            _scored(settings, on_progress)
        case LdsJob(settings=wanted) if part.model >= 0:
            dataset, checkpoint = (
                catalogue.by_digest(wanted.dataset),
                checkpoints.by_digest(wanted.checkpoint, wanted.dataset),
            )
            subset_losses.losses_of(
                dataset,
                checkpoint,
                subset_models.models(wanted)[part.model],
                on_progress,
                lambda: [subset_models.training(dataset, checkpoint, one) for one in subset_models.lacking(wanted)],
                part.workers,
            )
        case LdsJob(settings=wanted):
            of_set = catalogue.by_digest(wanted.dataset)
            subset_models.check(of_set, checkpoints.by_digest(wanted.checkpoint, wanted.dataset), wanted)
            drawing.generate_missing(wanted.targets, wanted.checkpoint, wanted, on_progress)


def _dataset(job: DatasetJob, on_progress: Progress) -> Artifact:
    source = Path(job.source) if job.source else None
    return catalogue.prepare(job.dataset, source, lambda done, total: on_progress(done, total, "pictures", ""))


def _attribution(job: AttributeJob, on_progress: Progress) -> list[Artifact]:
    """Compute training features, kernel and target features, counted as gradients of one (picture, timestep)."""
    from dtrak_core.features import directions, features, kernel

    made: list[Artifact] = []
    later: list[tuple[Artifact, Progress]] = []  # kernels whose directions the first answer does not wait for
    total = sum(sum(_gradients(settings, job)) for settings in job.features)
    before = 0
    for number, settings in enumerate(job.features):
        dataset, checkpoint = (
            catalogue.by_digest(settings.dataset),
            checkpoints.by_digest(settings.checkpoint, settings.dataset),
        )
        about = f"{settings.model_output}, {number + 1} of {len(job.features)}" if len(job.features) > 1 else ""
        drawn_by = job.pictures_of or settings.checkpoint
        drawing.generate_missing(job.targets, drawn_by, job, on_progress)
        chosen = [targets.resolve(dataset, drawn_by, name, job) for name in job.targets]
        denoiser = open_models.opened(checkpoint)
        per_training, per_targets = _gradients(settings, job)
        part = _part(on_progress, before, per_training, total, f"Training features {about}".strip())
        trained = features.compute_features(dataset, denoiser, settings, part, job.pictures_per_batch)
        part = _part(on_progress, before + per_training, 0, total, f"Kernel {about}".strip())
        made.append(trained)
        # Parts have a kernel for every position of the faders.
        if settings.parts == "whole" and number not in job.undamped:
            made.append(kernel.compute_kernel(trained, part))
            later.append((made[-1], part))
        if settings.normalise == "timestep":
            if later and later[-1][0] is made[-1]:  # of DAS, which answers nothing without leverages
                made += directions.compute(*later.pop())
            made.append(features.compute_residuals(dataset, denoiser, settings, part))
        part = _part(on_progress, before + per_training, per_targets, total, f"Target features {about}".strip())
        side = TargetSide(**job.model_dump(include=set(TargetSide.model_fields)))
        batch = job.pictures_per_batch
        made += features.compute_target_features(denoiser, settings, chosen, part, batch, side)
        if settings.parts == "faders":
            made += fader_scores.compute_repeats(settings, chosen)
            made += certainty.compute(settings, chosen)
            if fader_scores.method_of_features(settings) is not None:
                made += turned.compute(settings, chosen, fader_scores.neutral(len(trained.manifest["groups"])))
        before += per_training + per_targets
    return made + [one for solved, part in later for one in directions.compute(solved, part)]


def _embeddings(job: EmbedJob, on_progress: Progress) -> list[Artifact]:
    if job.weights not in ("", embeddings.UNKNOWN):
        embeddings.refuse_other(job.model, job.weights)
    dataset = catalogue.by_digest(job.dataset)
    if job.checkpoint:
        drawing.generate_missing(job.targets, job.checkpoint, job, on_progress)
    made = [embeddings.embed_dataset(dataset, job.model, lambda d, t: on_progress(d, t, "pictures", "Training set"))]
    for name in job.targets:
        on_progress(0, len(job.targets), "targets", name)
        target = targets.resolve(dataset, job.checkpoint, name, job)
        made.append(embeddings.embed_target(job.model, target.image))
    return made


def _own_scores(job: ScoreJob, on_progress: Progress) -> list[Artifact]:
    """Compute the scores of methods that keep no features."""
    dataset = catalogue.by_digest(job.dataset)
    drawing.generate_missing(job.targets, job.checkpoint, job, on_progress)
    chosen = [targets.resolve(dataset, job.checkpoint, name, job) for name in job.targets]
    made: list[Artifact] = []
    for name in job.methods:
        plan = scores.resolve(name, dataset, job.checkpoint, chosen)
        made += family_of(plan.method).compute(plan, on_progress)
    return made


def _benchmark(job: BenchmarkJob, on_progress: Progress) -> list[Artifact]:
    """Generate the targets, then work through the recipes."""
    from dtrak_core.lds import benchmarking

    where = job.settings
    drawing.generate_missing(where.targets, where.checkpoint, where, on_progress)
    dataset = catalogue.by_digest(where.dataset)
    return benchmarking.compute(dataset, where, job.recipes, job.keep_scores, on_progress)


def _counterfactual(job: CounterfactualJob, on_progress: Progress) -> Artifact:
    """Compute what the removal sets need, then retrain and compare."""
    from dtrak_core.counterfactual import counterfactual

    _scored(job.settings, on_progress)
    where = job.settings
    dataset = catalogue.by_digest(where.dataset, where.facts)
    checkpoint = checkpoints.by_digest(where.checkpoint, where.dataset)
    return counterfactual.compare(dataset, checkpoint, job.settings, job.name, on_progress)


def _lds(settings: LdsSettings, on_progress: Progress) -> list[Artifact]:
    """Generate the targets, then train the models and measure the losses."""
    from dtrak_core.lds import subset_losses

    dataset, checkpoint = (
        catalogue.by_digest(settings.dataset),
        checkpoints.by_digest(settings.checkpoint, settings.dataset),
    )
    subset_models.check(dataset, checkpoint, settings)
    drawing.generate_missing(settings.targets, settings.checkpoint, settings, on_progress)
    return subset_losses.compute(dataset, checkpoint, settings, on_progress)


def _scored(settings: CounterfactualSettings, on_progress: Progress) -> None:
    """Compute all that the scores of a comparison need, and its targets' own pictures."""
    settings = encoders.obtained(settings)
    drawing.generate_missing(settings.targets, settings.checkpoint, settings, on_progress)
    ranked = [name for name in settings.methods if not is_fixed(name)]
    dataset = catalogue.by_digest(settings.dataset)
    own = [targets.resolve(dataset, settings.checkpoint, name, settings) for name in settings.targets]
    plans = [
        scores.resolve(one, dataset, settings.checkpoint, own, removals.features_of(settings, one)) for one in ranked
    ]
    for reason in filter(None, (one.refused for one in plans)):
        raise SettingsError(reason)
    for job in asking.jobs_for(plans, settings):
        run(job, on_progress)


def _gradients(settings: FeatureSettings, job: AttributeJob) -> tuple[int, int]:
    """Return how many gradients are still to be computed: of training pictures, and of targets."""
    stored = find("features", key_of("features", settings)) is not None
    training = 0 if stored else len(catalogue.by_digest(settings.dataset).train.images)
    each = job.sampling_steps if job.trajectory else settings.num_timesteps * noise_seeds(settings)
    return training * settings.num_timesteps, len(job.targets) * each


def _part(on_progress: Progress, before: int, weight: int, total: int, stage: str) -> Progress:
    """Return progress for one stage, which makes up `weight` of the `total` gradients of the whole job."""

    def say(done: int, out_of: int, _unit: str, message: str) -> None:
        text = f"{stage}: {message}" if message else stage
        on_progress(before + (weight * done // out_of if out_of else 0), total, "gradients", text)

    return say
