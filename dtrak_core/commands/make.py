"""Commands that make something: datasets, checkpoints, pictures, attributions.

Options are taken from the settings that the pages use, so that both accept the same values.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro
from pydantic import Field, create_model

from dtrak_core import files, store
from dtrak_core.amounts import numbers_of
from dtrak_core.commands import answers, estimates, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.number_lists import indices_of
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import identity
from dtrak_core.datasets.content import by_reason
from dtrak_core.datasets.picture_tables import KNOWN
from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.jobs import jobs
from dtrak_core.models import bases, checkpoints, targets
from dtrak_core.models.precision import Asked, resolved
from dtrak_core.models.settings import Frozen, Layers, Prediction, Sampled, TrainSettings
from dtrak_core.settings import Settings, build
from dtrak_core.training import presets

TRAINING = {
    "epochs": "Passes over the training set.",
    "train_seed": "Seed of everything random in the training.",
    "batch_size": "Pictures a step.",
    "learning_rate": "Highest rate, after the warm-up.",
    "ema_decay": "Decay of the average of the weights; 0 samples from the weights themselves.",
    "weights_dtype": "How the weights are stored.",
}
FEATURES = {
    "num_timesteps": "Timesteps a picture.",
    "timestep_strategy": "Timesteps spread over all noise levels, the cleanest ones, or spread over the lowest fifth.",
    "noise_seed": "Seed of the noise added to the pictures.",
    "projection": "Random projection of the gradients.",
    "proj_dim": "Size after the projection.",
    "proj_seed": "Seed of the projection.",
    "storage": "Number format of stored features.",
}
BY_METHOD = "(default: the method's own)"
MOST_SEEDS = 100_000
SHORT = {"num_timesteps": "timesteps"}  # names that are shorter on the command line


def _options(cls: type[Settings], helps: dict[str, str], otherwise: str) -> Any:
    """Return a class of options for some fields of settings, all of which may be left out."""
    fields: dict[str, Any] = {}
    for name, text in helps.items():
        kind: Any = cls.model_fields[name].annotation
        choices = "|".join(map(str, getattr(kind, "__args__", ()))) or getattr(kind, "__name__", "").upper()
        option = SHORT.get(name, name).replace("_", "-")
        shown = tyro.conf.arg(name=option, metavar=choices, help=text, help_behavior_hint=f"(default: {otherwise})")
        fields[name] = (Annotated[kind | None, shown], Field(default=None))
    # What is not a number is refused where settings are built, in a sentence.
    config = Settings.model_config | {"allow_inf_nan": True}
    return create_model(f"{cls.__name__}Options", __config__=config, **fields)


if TYPE_CHECKING:
    TrainOptions: TypeAlias = Settings
    FeatureOptions: TypeAlias = Settings
else:
    TrainOptions = _options(TrainSettings, TRAINING, "the preset's")
    FeatureOptions = _options(FeatureSettings, FEATURES, "as stored, else the app's")


def dataset(
    name: str = catalogue.DEFAULT,
    source: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None,
    resolution: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None,
    on_broken: Literal["refuse", "skip"] = "refuse",
    columns: tuple[str, ...] = (),
    json: Json = False,
) -> None:
    """Prepare a built-in dataset, or add your own pictures; `dataset list` lists what is there.

    Args:
        name: What to prepare (openmoji-people, openmoji-roles, emoji-schools, cifar2, cifar10, celeba, artbench2,
            artbench5), or what to call your pictures.
        source: A folder of pictures (sub-folders are labels), a zip of one, or an .npz of images and labels; for
            celeba and artbench the folder of your copy.
        resolution: Side of the square pictures (default: the paper's, else 32).
        on_broken: What to do with pictures that cannot be read.
        columns: Which column of your tables tells what, like label=style; label= reads none. It may be given several
            times.
    """
    chosen: Any = tuple(tuple(one.split("=", 1)) for one in columns)
    if unclear := [one for one, pair in zip(columns, chosen, strict=True) if len(pair) < 2 or pair[0] not in KNOWN]:
        raise SettingsError(
            f"--columns is '{unclear[0]}'; write a fact and its column, like label=style. Facts: {', '.join(KNOWN)}."
        )
    if chosen and source is None:
        raise SettingsError("--columns is for tables beside your own pictures. Give their folder with --source.")
    job = answers.dataset_job(name, source, resolution, on_broken, chosen)
    (artifact,) = answers.completed(job, f"Prepare '{name}'")
    facts = ("name", "digest", "counts", "labels", "licence", "credit")
    opened = catalogue.load(catalogue.make_newest(artifact))
    equal = opened.equal
    counts = {"train_distinct": equal.distinct, "train_copies": equal.copies, "held_out_in_train": len(equal.leaked)}
    sentences = " ".join(catalogue.equal_pictures(opened)) or "none"
    told = {"equal_pictures": sentences, "equal_counts": counts, "folder": str(artifact.path)}
    left_out = by_reason(opened.skipped)
    rows = opened.train.rows + opened.held_out.rows
    files = {
        "with_caption": sum(bool(row["caption"]) for row in rows),
        "with_contributor": sum(bool(row["contributor"]) for row in rows),
        "notes": list(opened.notes),
        "left_out": {why: count for why, (count, _) in left_out.items()},
        "skipped": [asdict(left) for left in opened.skipped],
    }
    answer = {fact: artifact.manifest[fact] for fact in facts} | {"digest": opened.digest} | told | files
    say(answer, json, lambda found: tables.dataset(found, left_out))


def dataset_list(json: Json = False) -> None:
    """List the stored datasets."""
    rows = [
        {
            "name": artifact.manifest["name"],
            "resolution": artifact.settings["resolution"],
            **artifact.manifest["counts"],
            "digest": identity(artifact),
        }
        for artifact in store.listing("datasets")
    ]
    say(rows, json, lambda found: tables.table(found, ("name", "resolution", "train", "held_out", "digest")))


def train(
    name: str,
    dataset: str = catalogue.DEFAULT,
    preset: Annotated[
        Literal["demo", "picture", "portraits", "flow", "cifar", "celeba", "lora-demo", "lora"] | None,
        tyro.conf.arg(help_behavior_hint="(default: portraits for openmoji-people, else demo)"),
    ] = None,
    base: str = "",
    prediction: Annotated[
        Prediction | None, tyro.conf.arg(metavar="noise|sample|v|flow", help_behavior_hint="(default: the preset's)")
    ] = None,
    classes: bool = False,
    grey: bool = False,
    precision: Asked = "auto",
    frozen: Frozen = "stored",
    layers: Layers = "attention",
    only: str = "",
    without: str = "",
    options: Annotated[TrainOptions, tyro.conf.arg(name="")] = TrainOptions(),  # noqa: B008
    estimate: bool = False,
    json: Json = False,
) -> None:
    """Train a model on a dataset. Run again, it continues where it stopped.

    Args:
        name: What to call the checkpoint.
        dataset: Name of the training set.
        preset: Network and training settings to start from.
        base: Name of the text-to-image model that LoRA weights are trained on (default: the first there is).
        prediction: What a network of pixels puts out: the noise, the clean picture (sample), v or flow.
        classes: Tell a network of pixels the class of each picture, its label; pictures are then drawn of classes.
        grey: Have a network of pixels see and draw grey pictures, with one colour instead of three.
        precision: What products in the network are taken in; auto takes bfloat16 where this processor has it.
        frozen: Hold the frozen linear layers under LoRA weights in 8 (int8) or 4 bits (nf4), in less memory.
        layers: What LoRA weights go to: the attention's projections, or all layers of a U-Net's blocks, which take in
            more of a small set.
        only: Train on these training indices alone, like 0-449 or 3,7,20-23.
        without: Leave these training indices out.
        estimate: Train nothing; measure what a step costs here, anew each time, and say how long the training takes.
    """
    chosen = answers.prepared(dataset)
    indices = indices_of(only, without, len(chosen.train.rows))
    preset = preset or ("portraits" if chosen.settings.kind == catalogue.DEFAULT else "demo")
    lora = presets.PRESETS[preset].model is None
    if base and not lora:
        raise SettingsError(
            f"--base is '{base}', and preset '{preset}' trains a network of pixels from nothing. Choose a preset of "
            "LoRA weights, like --preset lora, or leave --base out."
        )
    under = bases.chosen(base, chosen.settings.resolution).digest if lora else ""
    settings = presets.train_settings(
        preset,
        chosen.digest,
        under,
        prediction,
        presets.seen(chosen, classes, grey),
        precision=resolved(precision),
        form=frozen,
        layers=layers,
        indices=indices,
        **options.model_dump(),
    )
    if estimate:
        say(estimates.estimated(settings, chosen), json, tables.facts)
        return
    (artifact,) = answers.completed(build(jobs.TrainJob, train=settings, name=name), f"Train '{name}'")
    say(answers.checkpoint_of(artifact, chosen), json, tables.checkpoint)


def sample(
    seeds: str = "0-15",
    checkpoint: str = "demo",
    dataset: str = catalogue.DEFAULT,
    sampled: Drawing = Sampled(),  # noqa: B008
    batch: int = 16,
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Generate pictures from seeds.

    Args:
        seeds: Numbers and ranges, like 0-15 or 3,7,20-23.
        checkpoint: Name of the checkpoint, with @25, @50, @75 for its earlier weights.
        dataset: Name of the dataset that it was trained on.
        sampled: Sampler.
        batch: Pictures generated at once; changes no picture.
        out: Folder to copy the pictures to.
    """
    if out is not None:
        files.check_place(out, folder=True)
    pictures = answers.prepared(dataset)
    chosen = checkpoints.by_name(checkpoint, pictures.digest)
    sampled, rows = answers.with_prompts(pictures, chosen, sampled), []
    for artifact in answers.generated(chosen, numbers_of(seeds, "seeds", MOST_SEEDS), sampled, batch):
        seed, file = artifact.settings["seed"], artifact.file(targets.PICTURE)
        if out is not None:
            copy = out / f"{checkpoint}-seed-{seed}.png"
            store.write_bytes(copy, file.read_bytes())
            file = copy
        rows.append({"target": f"seed:{seed}", "seed": seed, "pixels": artifact.manifest["pixels"], "file": str(file)})
    say(rows, json, lambda found: tables.table(found, ("target", "file")))


def attribute(
    sample: str,
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    method: tuple[str, ...] = (),
    top: int = 8,
    damping: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None,
    rank_share: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=BY_METHOD)] = None,
    model_output: Annotated[ModelOutput | None, tyro.conf.arg(metavar="OUTPUT", help_behavior_hint=BY_METHOD)] = None,
    features: Annotated[FeatureOptions, tyro.conf.arg(name="")] = FeatureOptions(),  # noqa: B008
    feature_batch: int = 0,
    sampled: Drawing = Sampled(),  # noqa: B008
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Find the training pictures that made a picture. What is not stored is computed.

    Args:
        sample: The target: seed:3 (generated), held-out:7, train:12, upload:<digest>, or a picture file.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        method: d-trak, trak, gradient-dot, ...; may be given several times (default: d-trak).
        top: Number of proponents and of opponents; of each, the figure shows at most 32.
        damping: Damping of TRAK and D-TRAK, in the units of the kernel's eigenvalues.
        rank_share: Damping by what it means: effective rank over the number of training pictures, 0 to 1.
        model_output: Function whose gradient is taken: squared-output (D-TRAK's own), loss (TRAK's), mean-output
            (DAS's), elbo, l1-norm, l2-norm, linf-norm, and squared-noise, mean-noise, squared-clean or mean-clean, of
            the noise or the clean picture that the network's output means, whatever it predicts.
        features: Features.
        feature_batch: Pictures whose gradients are computed at once, 0 chooses; changes no score.
        sampled: Sampler for a target that is generated.
        out: Folder for scores.csv and scores.json with every score, and figure.png.
    """
    if top < 1:
        raise SettingsError(f"--top is {top}; ask for at least 1.")
    if out is not None:
        files.check_place(out, folder=True)
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    target, found = answers.attribution(
        chosen,
        weights,
        sample,
        method or ("d-trak",),
        features.model_dump(),
        answers.with_prompts(chosen, weights, sampled),
        damping,
        rank_share,
        feature_batch,
        model_output,
    )
    facts = targets.facts(target, chosen.name, weights.name)
    if out is not None:
        answers.write_files(out, facts, target, found, chosen, top)
    note = checkpoints.unlearned(weights, len(chosen.train.rows))
    document = answers.both_ends(facts, found, chosen, top) | ({"note": note} if note else {})
    say(document, json, tables.ranking)
