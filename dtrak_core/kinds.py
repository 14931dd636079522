"""The kinds of artifacts that the cache holds: one row each, which the store and all that looks after it read.

A new kind is a row here, and the settings class that names its artifacts where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from dtrak_core.amounts import counted

Facts: TypeAlias = Mapping[str, Any]  # an artifact's settings, as JSON values


@dataclass(frozen=True)
class Kind:
    """What is to be known of a kind of artifact.

    `name` is its folder in the cache, `about` what it is, for people. `made_by` says of settings what made an artifact
    of them. The limit of the cache takes only what is `recomputable`. Of a kind that is `read_by_many` a job reads many
    small ones, all of its dataset or checkpoint, which its own settings do not name. `format` is raised where the
    numbers would come out differently: what was stored before is neither found nor listed then.
    """

    name: str
    about: str
    made_by: Callable[[Facts], str] = lambda settings: ""
    recomputable: bool = False
    read_by_many: bool = False
    format: int = 1


def _dataset(settings: Facts) -> str:
    return f"{settings['kind']}, {settings['resolution']} px"


def _model(settings: Facts) -> str:
    if "epochs" not in settings:
        return f"imported from {settings['source']}"
    chosen = settings["indices"]
    count = f"{counted(len(chosen), 'picture')}, " if chosen is not None else ""
    return f"training: {count}{counted(settings['epochs'], 'epoch')}, seed {settings['train_seed']}"


def _base(settings: Facts) -> str:
    return f"files at {settings['place']}" if settings.get("place") else "text-to-image model"


def _sample(settings: Facts) -> str:
    prompt = f" for '{settings['prompts'][0]}'" if settings.get("prompts") else ""
    return f"seed {settings['seed']}{prompt}, {settings['sampler'].upper()} {settings['sampling_steps']}"


def _features(settings: Facts) -> str:
    return f"{settings['model_output']}, {counted(settings['num_timesteps'], 'timestep')}, k = {settings['proj_dim']:,}"


def _target_features(settings: Facts) -> str:
    return f"{settings['target']}: {_features(settings['features'])}"


def _directions(settings: Facts) -> str:
    return _features(settings["features"])


def _outcome(settings: Facts) -> str:
    return f"seed {settings['sample']['seed']}, {len(settings['removed'])} removed"


def _subset_losses(settings: Facts) -> str:
    return f"subset {settings['subset']}, seed {settings['train_seed']}, {counted(len(settings['targets']), 'target')}"


def _target(settings: Facts) -> str:
    return str(settings["target"])


def _method_of_target(settings: Facts) -> str:
    return f"{settings['method']}, {settings['target']['target']}"


def _recipe(settings: Facts) -> str:
    return f"{settings['recipe']['method']} for {counted(len(settings['targets']), 'target')}"


def _comparison(settings: Facts) -> str:
    return f"{', '.join(settings['methods'])} for {counted(len(settings['targets']), 'target')}"


def _checkpoint(settings: Facts) -> str:
    return f"checkpoint {settings['checkpoint']}"


def _map(settings: Facts) -> str:
    return f"by {settings['space']}"


def _trial(settings: Facts) -> str:
    return f"{counted(len(settings['removed']), 'picture')} removed"


def _own_scores(settings: Facts) -> str:
    return f"'{settings['name']}' for {counted(len(settings['targets']), 'target')}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("datasets", "training and held-out pictures", _dataset),
        Kind("checkpoints", "trained models", _model),
        Kind("names", "further names of trained models", lambda settings: f"run {settings['run']}"),
        Kind("probes", "measured speeds of training"),
        Kind("samples", "generated pictures", _sample, read_by_many=True),
        Kind("features", "gradient features of training sets", _features, recomputable=True),
        Kind("kernels", "what scores need beside features", _features, recomputable=True),
        Kind(
            "directions",
            "what leverages need beside large kernels",
            _directions,
            recomputable=True,
            read_by_many=True,
        ),
        Kind(
            "target-features",
            "features of pictures that were explained",
            _target_features,
            recomputable=True,
            read_by_many=True,
        ),
        Kind(
            "embeddings",
            "pictures as other networks see them",
            lambda settings: str(settings["model"]),
            recomputable=True,
            read_by_many=True,
        ),
        Kind("uploads", "pictures that you brought", read_by_many=True),
        Kind("incoming", "files that you uploaded, until they are taken in or a day old"),
        Kind("retrained", "models trained without some pictures", _model, recomputable=True, read_by_many=True),
        Kind("outcomes", "pictures that retrained models drew", _outcome, read_by_many=True),
        Kind("comparisons", "finished comparisons of removals", _comparison),
        Kind("subset-losses", "losses under models trained on subsets", _subset_losses, read_by_many=True),
        Kind(
            "residuals", "how well a model knows each training picture", _features, recomputable=True, read_by_many=True
        ),
        Kind("patches", "scores by comparing patches", _target, recomputable=True, read_by_many=True),
        Kind("predictions", "what scores predict for subsets", _recipe, recomputable=True, read_by_many=True),
        Kind("own-scores", "scores that you brought", _own_scores, read_by_many=True),
        Kind("scores", "scores of many targets together", _recipe, recomputable=True, read_by_many=True),
        Kind(
            "repeats", "scores from either half of the draws", _method_of_target, recomputable=True, read_by_many=True
        ),
        Kind(
            "certainties",
            "how far rankings repeat, at every damping",
            _method_of_target,
            recomputable=True,
            read_by_many=True,
        ),
        Kind(
            "turned",
            "scores with layers and noise levels turned up or down",
            _method_of_target,
            recomputable=True,
            read_by_many=True,
        ),
        Kind("ekfac", "scores by EK-FAC influence", _target, recomputable=True, read_by_many=True),
        Kind(
            "looks", "what models are, before they are taken in", lambda settings: settings["source"], recomputable=True
        ),
        Kind("bases", "text-to-image models that LoRA weights belong to", _base),
        Kind(
            "latents",
            "encoded training pictures",
            lambda settings: f"pictures of dataset {settings['dataset']}",
            recomputable=True,
            read_by_many=True,
        ),
        Kind("suspicions", "how a model doubts captions", _checkpoint, recomputable=True, read_by_many=True),
        Kind("maps", "training pictures laid out by likeness", _map, recomputable=True),
        Kind("trials", "held-out losses without some pictures", _trial, read_by_many=True),
        Kind("frontiers", "what better answers cost", _checkpoint),
        Kind("captions", "what captions tell text-to-image models", recomputable=True, read_by_many=True),
    )
}
