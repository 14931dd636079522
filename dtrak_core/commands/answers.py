"""What the command line answers: asks for the jobs that an answer needs, follows them, reads what they stored.

Progress goes to stderr. No torch here: it is the worker that computes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtrak_core import program, store
from dtrak_core.amounts import counted, duration
from dtrak_core.commands import refusals
from dtrak_core.datasets import catalogue, pictures, sources
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import Columns, DatasetSettings
from dtrak_core.errors import JobError, NotFoundError, SettingsError
from dtrak_core.features.settings import ModelOutput
from dtrak_core.files import expanded
from dtrak_core.jobs import asking, job_costs, jobs
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.methods import certainty, costs, crediting, defaults, figure, results, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import Method, method_of, with_output
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.results import Ranking
from dtrak_core.models import checkpoints, class_names, targets, ways
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build
from dtrak_core.store import Artifact

SAY_EVERY = 10.0  # seconds between two lines of progress where stderr is no terminal


def completed(job: jobs.Job, label: str) -> list[Artifact]:
    """Have a job done, telling on stderr how far it is; return what it stored.

    Raises:
        JobError: If it failed, was cancelled or lost its worker.
        KeyboardInterrupt: If the user stops following; the job goes on, which is said.
    """
    key, fresh = jobs.submit(job, label)
    return follow(key, label if fresh else f"{label} (already asked for)")


def follow(key: str, label: str) -> list[Artifact]:
    """Follow a job to its end as `completed` does."""
    terminal, last, shown = sys.stderr.isatty(), 0.0, ""

    def tell(now: jobs.JobState) -> None:
        nonlocal last, shown
        parts = [label, f"{now.done:,} of {now.total:,} {now.unit}" if now.total else "", now.message.rstrip(".")]
        if now.seconds_left is not None:
            parts.append(f"about {duration(now.seconds_left)} left")
        text = " · ".join(part for part in parts if part)
        if terminal:
            print(f"\r\x1b[K{text[:160]}", end="", file=sys.stderr, flush=True)
        elif text != shown and (time.monotonic() - last > SAY_EVERY or not now.active):
            print(text, file=sys.stderr, flush=True)
            last, shown = time.monotonic(), text

    try:
        end = jobs.wait(key, tell)
    except KeyboardInterrupt:
        print(
            f"\nThe job goes on. Follow it with '{program.command(f'jobs show {key}')}', "
            f"stop it with '{program.command(f'jobs cancel {key}')}'.",
            file=sys.stderr,
        )
        raise
    if terminal:
        print(file=sys.stderr)
    if end.state != "done":
        raise JobError(f"{label}: {end.state}. {end.message} Its log: {program.command(f'jobs show {key}')}.")
    return [store.get(kind, name) for kind, name in end.artifacts]


def prepared(name: str) -> Dataset:
    """Open a dataset; the default one is prepared first where it is not stored."""
    if name == catalogue.DEFAULT and not any(a.manifest["name"] == name for a in store.listing("datasets")):
        completed(jobs.DatasetJob(dataset=DatasetSettings()), f"Prepare '{name}'")
    return catalogue.by_name(name)


def dataset_job(
    name: str, source: Path | None, resolution: int | None, on_broken: str, columns: Columns = ()
) -> jobs.DatasetJob:
    """Return the job that prepares a built-in dataset, or one's own pictures from a folder, a zip or an .npz.

    Raises:
        SettingsError: If there is no such built-in dataset and no source is given.
    """
    if source is not None and name not in sources.FROM_FILES:
        kind = pictures.kind_of(source)
        settings = catalogue.source_settings(
            kind, source, name, 32 if resolution is None else resolution, on_broken, columns
        )
        return jobs.DatasetJob(dataset=settings, source=str(source.resolve()))
    if name not in catalogue.BUILT_IN:
        raise SettingsError(
            f"'{name}' is not a built-in dataset ({', '.join(catalogue.BUILT_IN)}). "
            "Give --source with a folder, a zip or an .npz of your own pictures."
        )
    settings = catalogue.built_in(name, resolution)  # type: ignore[arg-type] # checked above
    where = str(source.resolve()) if source is not None else ""
    return jobs.DatasetJob(dataset=catalogue.settled(settings, source), source=where)


def with_prompts(dataset: Dataset, checkpoint: Checkpoint, sampled: Sampled) -> Sampled:
    """Return how pictures are drawn, what is not said as the model draws (`ways.completed`).

    Raises:
        SettingsError: If the model does not draw so, or as `ways.completed`.
    """
    checkpoints.check_drawing(checkpoint, sampled)
    return ways.completed(dataset, checkpoint, sampled)


def generated(checkpoint: Checkpoint, seeds: Sequence[int], sampled: Sampled, batch: int = 16) -> list[Artifact]:
    """Return the generated pictures of these seeds, generating those that are not stored."""
    job = build(
        jobs.SampleJob, checkpoint=checkpoint.digest, seeds=tuple(seeds), pictures_per_batch=batch, **sampled.drawing()
    )
    costs.tell(job_costs.of_drawing(checkpoint, seeds, sampled), counted(len(seeds), "picture"))
    return completed(job, f"Generate {counted(len(seeds), 'picture')}")


def attribution(
    dataset: Dataset,
    checkpoint: Checkpoint,
    sample: str,
    chosen: Sequence[str],
    changes: Mapping[str, Any],
    sampled: Sampled,
    damping: float | None,
    rank_share: float | None,
    feature_batch: int,
    model_output: ModelOutput | None = None,
) -> tuple[Target, list[Ranking]]:
    """Return a target and each method's ranking for it, computing what is not stored.

    Args:
        dataset: The training set.
        checkpoint: The weights.
        sample: Id of the target, or the path of a picture of one's own.
        chosen: Ids of methods.
        changes: Feature settings that replace the stored or default ones; None leaves one as it is.
        sampled: Sampler, steps and eta with which a target is generated.
        damping: Damping for the methods that have one, in the kernel's units; None takes the rank share.
        rank_share: Effective rank over the number of training pictures; None takes each method's own.
        feature_batch: Pictures whose gradients are computed at once; 0 lets the machine choose.
        model_output: The function that replaces each method's own; None leaves them.
    """
    wanted = [with_output(method_of(name), model_output) for name in dict.fromkeys(chosen)]
    refusals.damping(wanted, damping, rank_share)
    refusals.feature_batch(feature_batch)
    for one in wanted:
        if reason := scores.refusal(one, checkpoint.digest, None, dataset.digest):
            raise SettingsError(reason)
    target = _target(dataset, checkpoint, sample, sampled)
    plans = [_plan(dataset, checkpoint, target, one, changes) for one in wanted]
    _compute_missing(dataset, checkpoint, plans, feature_batch)
    found = []
    for plan in plans:
        one, share = plan.method, rank_share if plan.method.damped else None
        result = scores.of_one(scores.score(plan, damping if one.damped else None, share), target)
        made = dict(result.provenance)
        how = (result.damping, result.effective_rank, made, family_of(one).random)
        ranked = results.ranking(one.id, one.label, result.values, *how)
        found.append(ranked if plan.features is None else certainty.marked(ranked, plan.features, target))
    return target, found


def both_ends(facts: Mapping[str, Any], rankings: Sequence[Ranking], dataset: Dataset, top: int) -> dict[str, Any]:
    """Return the document of `results.document`; of a single method, both ends at the top as well."""
    document = results.document(facts, rankings, dataset.train.rows, top, crediting.terms(dataset))
    if len(rankings) == 1:
        only = document["methods"][rankings[0].method]
        document |= {"proponents": only["proponents"], "opponents": only["opponents"]}
    return document


def write_files(
    folder: Path, facts: Mapping[str, Any], target: Target, rankings: Sequence[Ranking], dataset: Dataset, top: int
) -> None:
    """Write every score as CSV and JSON, and the figure as PNG, each with the settings that made them."""
    rows, images = dataset.train.rows, dataset.train.images
    made = {"target": dict(facts), "methods": {one.method: dict(one.provenance) for one in rankings}}
    store.write_bytes(folder / "scores.csv", results.to_csv(facts, rankings, rows, crediting.terms(dataset)))
    store.write_bytes(folder / "scores.json", results.to_json(facts, rankings, rows, crediting.terms(dataset)))
    title = target.caption or target.id
    drawn = figure.draw(
        target.image, title, rankings, images, (top, top), made, rows=dataset.train.rows, terms=crediting.terms(dataset)
    )
    store.write_bytes(folder / "figure.png", drawn)


def _target(dataset: Dataset, checkpoint: Checkpoint, sample: str, sampled: Sampled) -> Target:
    """Return the target, generated or taken in first where that is needed."""
    file = expanded(sample)
    if file.is_file():
        return targets.keep_upload(dataset, file.read_bytes(), file.name)
    if ":" not in sample and (file.suffix or file.is_dir() or len(file.parts) > 1):
        what = "is a folder" if file.is_dir() else "is no file"
        raise NotFoundError(
            f"'{sample}' {what}. Give the path of a picture, or a target of the dataset: seed:3 (generated), "
            "held-out:7, train:12."
        )
    try:
        return targets.resolve(dataset, checkpoint.digest, sample, sampled)
    except NotFoundError:
        if not sample.startswith("seed:"):
            raise
    generated(checkpoint, [targets.seed_of(sample)], sampled)
    return targets.resolve(dataset, checkpoint.digest, sample, sampled)


def _plan(dataset: Dataset, checkpoint: Checkpoint, target: Target, method: Method, changes: Mapping[str, Any]) -> Plan:
    """Return what a method needs for a target, or say why it is refused."""
    base = defaults.base_for(dataset.digest, checkpoint.digest, method, changes)
    plan = scores.resolve(method, dataset, checkpoint.digest, [target], base)
    if plan.refused:
        raise SettingsError(plan.refused)
    return plan


def _compute_missing(dataset: Dataset, checkpoint: Checkpoint, plans: Sequence[Plan], feature_batch: int) -> None:
    """Have computed what plans for one target miss: one job for all gradient features, one for each encoder."""
    lacking = [one for one in plans if one.missing]
    for one in lacking:  # here, since an engine may have begun with an encoder's weights that are not set up now
        if reason := family_of(one.method).lacking(one.method):
            raise SettingsError(reason)
    if not lacking:
        return
    labels, target = ", ".join(one.method.label for one in lacking), lacking[0].targets[0]
    missing = [part for one in lacking for part in one.missing]
    costs.tell(scores.estimate(dataset, checkpoint, missing, [target]), labels)
    for job in asking.jobs_for(lacking, target.sampled):
        own = job.model_copy(update={"pictures_per_batch": feature_batch}) if isinstance(job, AttributeJob) else job
        completed(own, f"{labels} for {target.id}")


def checkpoint_of(artifact: Artifact, dataset: Dataset) -> dict[str, Any]:
    """Return what is told of a run: its name (the one asked for), its checkpoints and their digests, cost, place.

    `dataset` is the one asked about: the run's own may have the same pictures under another name.
    """
    kept = sorted(checkpoints.of_run(artifact), key=lambda c: c.share != 100)
    facts, assumed = kept[0].run.manifest, list(kept[0].assumed)
    told = ("parameters", "seconds", "final_loss")
    found = {"name": artifact.manifest["name"], "dataset_name": dataset.name} | {
        name: facts[name] for name in told if name in facts
    }
    return (
        found
        | ({"classes": class_names.listed(kept[0].classes)} if kept[0].classes else {})
        | ({"assumed": assumed} if assumed else {})
        | {
            "checkpoints": [{"name": c.name, "step": c.step, "share": c.share, "digest": c.digest} for c in kept],
            "folder": str(kept[0].run.path),
        }
    )
