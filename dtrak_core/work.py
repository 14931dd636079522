"""What is done for each kind of job, in a process of its own that the worker starts and may kill.

Each function calls the module that knows how, with that module's settings, and returns what it stored.
Modules with torch are imported when the first job needs them.

    python -m dtrak_core.work <parent>   reads {"key", "attempt"} lines, answers {"state", ...} lines
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from dtrak_core import checkpoints, datasets, engine, jobs, processes, removals, targets
from dtrak_core.errors import Cancelled, StudioError
from dtrak_core.job_kinds import (
    AttributeJob,
    CounterfactualJob,
    DatasetJob,
    EmbedJob,
    ImportJob,
    Job,
    ProbeJob,
    SampleJob,
    TrainJob,
)
from dtrak_core.methods import method_of
from dtrak_core.progress import Progress
from dtrak_core.settings import FeatureSettings, Sampled, build, key_of
from dtrak_core.store import Artifact, find

SAY = 0.1  # seconds between two reports of progress
OFFLINE = ("ConnectionError", "ConnectError", "ConnectTimeout", "LocalEntryNotFoundError", "OfflineModeIsEnabled")


def run(job: Job, progress: Progress) -> list[Artifact]:
    """Do a job; return the artifacts it asked for, made now or found in the store."""
    match job:
        case DatasetJob():
            return [_dataset(job, progress)]
        case TrainJob():
            from dtrak_core import training

            return [training.train(datasets.by_digest(job.train.dataset), job.train, job.name, progress)]
        case ImportJob():
            from dtrak_core import importing

            dataset = datasets.by_digest(job.dataset)
            return [importing.import_checkpoint(job.source, dataset, job.name, progress)]
        case ProbeJob():
            from dtrak_core import training

            return [training.probe(job.model, job.resolution, job.batch_size, progress)]
        case SampleJob():
            return _samples(job.checkpoint, job.seeds, job, job.pictures_per_batch, progress)
        case AttributeJob():
            return _attribution(job, progress)
        case EmbedJob():
            return _embeddings(job, progress)
        case CounterfactualJob():
            return [_counterfactual(job, progress)]


def _dataset(job: DatasetJob, progress: Progress) -> Artifact:
    source = Path(job.source) if job.source else None
    return datasets.prepare(job.dataset, source, lambda done, total: progress(done, total, "pictures", ""))


def _samples(
    checkpoint: str, seeds: tuple[int, ...], how: Sampled, pictures_per_batch: int, progress: Progress
) -> list[Artifact]:
    """Generate what is not stored yet, a batch at a time, so that a cancelled job keeps whole batches."""
    from dtrak_core import models, sampling

    wanted = [targets.sample_settings(checkpoint, seed, how) for seed in dict.fromkeys(seeds)]
    missing = [settings for settings in wanted if targets.find_sample(settings) is None]
    if missing:
        denoiser = models.load_denoiser(checkpoints.by_digest(checkpoint))
    steps, made = how.sampling_steps, len(wanted) - len(missing)
    for begin in range(0, len(missing), pictures_per_batch):
        batch = missing[begin : begin + pictures_per_batch]

        def on_step(done: int, _total: int, before: int = made + begin) -> None:
            message = f"Picture {min(len(wanted), before + 1)} of {len(wanted)}"
            progress(before * steps + done, len(wanted) * steps, "sampling steps", message)

        images = sampling.generate(
            denoiser, [s.seed for s in batch], how.sampler, steps, how.eta, on_step, pictures_per_batch
        )
        for settings, image in zip(batch, images, strict=True):
            targets.publish_sample(settings, image)
    return [artifact for s in wanted if (artifact := find("samples", key_of("samples", s))) is not None]


def _attribution(job: AttributeJob, progress: Progress) -> list[Artifact]:
    """Compute training features, kernel and target features, counted as gradients of one (picture, timestep)."""
    from dtrak_core import features, kernel, models

    made: list[Artifact] = []
    total = sum(sum(_gradients(settings, job)) for settings in job.features)
    before = 0
    for number, settings in enumerate(job.features):
        dataset, checkpoint = datasets.by_digest(settings.dataset), checkpoints.by_digest(settings.checkpoint)
        about = f"{settings.model_output}, {number + 1} of {len(job.features)}" if len(job.features) > 1 else ""
        _generate_missing(job, settings.checkpoint, progress)
        chosen = [
            targets.resolve(dataset, settings.checkpoint, name, job.sampler, job.sampling_steps, job.eta)
            for name in job.targets
        ]
        denoiser = models.load_denoiser(checkpoint)
        per_training, per_targets = _gradients(settings, job)
        part = _part(progress, before, per_training, total, f"Training features {about}".strip())
        trained = features.compute_features(dataset, denoiser, settings, part, job.pictures_per_batch)
        part = _part(progress, before + per_training, 0, total, f"Kernel {about}".strip())
        made += [trained, kernel.compute_kernel(trained, part)]
        part = _part(progress, before + per_training, per_targets, total, f"Target features {about}".strip())
        made += features.compute_target_features(dataset, denoiser, settings, chosen, part, job.pictures_per_batch)
        before += per_training + per_targets
    return made


def _embeddings(job: EmbedJob, progress: Progress) -> list[Artifact]:
    from dtrak_core import embeddings

    dataset = datasets.by_digest(job.dataset)
    if job.checkpoint:
        _generate_missing(job, job.checkpoint, progress)
    made = [embeddings.embed_dataset(dataset, job.model, lambda d, t: progress(d, t, "pictures", "Training set"))]
    for name in job.targets:
        progress(0, len(job.targets), "targets", name)
        target = targets.resolve(dataset, job.checkpoint, name, job.sampler, job.sampling_steps, job.eta)
        made.append(embeddings.embed_target(job.model, target.image))
    return made


def _counterfactual(job: CounterfactualJob, progress: Progress) -> Artifact:
    """Compute what the removal sets need, then retrain and compare."""
    from dtrak_core import counterfactual

    settings = job.settings
    how = settings.model_dump(include=set(Sampled.model_fields))
    ranked = [method_of(name) for name in settings.methods if not name.startswith(removals.CONTRIBUTOR)]
    if settings.features:
        _attribution(build(AttributeJob, features=settings.features, targets=settings.targets, **how), progress)
    for model in dict.fromkeys(method.embedding for method in ranked if method.embedding is not None):
        where = {"dataset": settings.dataset, "checkpoint": settings.checkpoint, "targets": settings.targets}
        _embeddings(build(EmbedJob, model=model, **where, **how), progress)
    seeds = tuple(removals.sample_of(target, settings).seed for target in settings.targets)
    _samples(settings.checkpoint, seeds, settings, 16, progress)
    dataset, checkpoint = datasets.by_digest(settings.dataset), checkpoints.by_digest(settings.checkpoint)
    return counterfactual.compare(dataset, checkpoint, settings, job.name, progress)


def _generate_missing(job: AttributeJob | EmbedJob, checkpoint: str, progress: Progress) -> None:
    seeds = tuple(int(name.removeprefix("seed:")) for name in job.targets if name.startswith("seed:"))
    if any(targets.find_sample(targets.sample_settings(checkpoint, seed, job)) is None for seed in seeds):
        _samples(checkpoint, seeds, job, 16, progress)


def _gradients(settings: FeatureSettings, job: AttributeJob) -> tuple[int, int]:
    """Return how many gradients are still to be computed: of training pictures, and of targets."""
    stored = find("features", key_of("features", settings)) is not None
    training = 0 if stored else len(datasets.by_digest(settings.dataset).train.images)
    return training * settings.num_timesteps, len(job.targets) * settings.num_timesteps


def _part(progress: Progress, before: int, weight: int, total: int, stage: str) -> Progress:
    """Return progress for one stage, which makes up `weight` of the `total` gradients of the whole job."""

    def say(done: int, out_of: int, _unit: str, message: str) -> None:
        text = f"{stage}: {message}" if message else stage
        progress(before + (weight * done // out_of if out_of else 0), total, "gradients", text)

    return say


def sentence(error: BaseException) -> str:
    """Say what went wrong in words for the user; print the traceback to the log where words do not suffice."""
    if isinstance(error, StudioError):
        return str(error)
    number = secrets.token_hex(3)
    print(f"Error {number}:\n{''.join(traceback.format_exception(error))}", file=sys.stderr, flush=True)
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {type(e).__name__ for e in chain}
    if any(isinstance(e, (socket.gaierror, ConnectionError, urllib.error.URLError)) for e in chain) or names & set(
        OFFLINE
    ):
        return (
            f"The network was needed and could not be reached. Connect and resume the job (error {number} in its log)."
        )
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in chain):
        return "The disk is full. Delete what you do not need ('python -m dtrak_core cache list'), then resume the job."
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return f"Memory did not suffice. Use fewer pictures at once or a smaller model (error {number} in the log)."
    return f"Something failed that was not foreseen: {type(error).__name__} (error {number} in the job's log)."


def serve(orders: TextIO, say: Callable[[dict[str, Any]], None], parent: int) -> None:
    """Do the jobs that are ordered, one a line, until there are no more orders."""
    for line in orders:
        order = json.loads(line)
        key, flag = order["key"], jobs.cancel_flag(order["key"], order["attempt"])
        log = os.open(engine.folder() / key / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        print(f"--- attempt {order['attempt']}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
        try:
            job = jobs.job_of(key)
            if not isinstance(job, DatasetJob):
                _import_torch()
            progress = _reporter(say, flag, parent)
            progress(0, 0, "", "")
            made = run(job, progress)
            artifacts = [[artifact.kind, artifact.key] for artifact in made]
            say({"state": "done", "message": "", "artifacts": artifacts})
        except Cancelled:
            say({"state": "cancelled", "message": "Cancelled. What was finished is kept."})
        except Exception as error:
            say({"state": "failed", "message": sentence(error)})


def _reporter(say: Callable[[dict[str, Any]], None], flag: Path, parent: int) -> Progress:
    """Return the progress function of a job: it reports, looks at the wish to cancel, and at its parent."""
    last = (0.0, "")

    def progress(done: int, total: int, unit: str, message: str) -> None:
        nonlocal last
        processes.leave_if_orphaned(parent)
        if flag.exists():
            say({"state": "stopping", "message": "Stopping."})
            raise Cancelled("Cancelled. What was finished is kept.")
        now = time.monotonic()
        if now - last[0] >= SAY or unit != last[1] or done == total:
            say({"state": "running", "done": done, "total": total, "unit": unit, "message": message})
            last = (now, unit)

    return progress


def _import_torch() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or max(1, processes.cores())))


def main(parent: int) -> None:
    """Serve the worker whose process id is given."""
    processes.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()

    serve(sys.stdin, say, parent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
