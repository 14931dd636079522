"""Settings of removals: of one outcome, and of a whole comparison."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AliasChoices, Field, model_validator

from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models.settings import DIFFUSION_STEPS, EvenGrid, Sampled, SampleSettings
from dtrak_core.models.targets import TargetId
from dtrak_core.settings import DRAWN, Digest, Seed, Settings

TakeOver = Annotated[int, Field(ge=1, le=DIFFUSION_STEPS, exclude_if=lambda value: value == DIFFUSION_STEPS)]
Group = Literal["none", "family", "contributor", "label"]
GROUPS: tuple[Group, ...] = get_args(Group)
_CERTAIN = ("random_draws", "train_seeds", "floor_models")  # more of them make an answer surer
EncoderWeights = tuple[tuple[EmbeddingModel, Digest], ...]


class OutcomeSettings(Settings):
    """What the model retrained without `removed` (ascending) and with `train_seed` makes of one generated target.

    `encoder_weights` is the digest of the encoder's weights (`EmbeddingSettings.weights`). Below timestep `take_over`
    of 1,000 the retrained model draws, above it the original.
    """

    sample: SampleSettings
    removed: tuple[int, ...]
    train_seed: Seed
    encoder: EmbeddingModel
    encoder_weights: str = Field(default="", exclude_if=lambda value: not value)
    num_timesteps: EvenGrid = 50
    noise_seed: Seed = 0
    take_over: TakeOver = DIFFUSION_STEPS


class CounterfactualSettings(Sampled):
    """A comparison of removals: targets x methods x sizes, always beside its controls (Zheng et al. 2024).

    `facts` is the digest of the dataset's contributors and families where removal sets depend on them, so that a
    corrected table asks for another comparison. So are `encoder_weights` the digests of the weights of all encoders,
    by which pictures are compared or ranked (encoders.py), but of those of EfficientNet-Lite0 that ship.

    `methods` are ids, or `contributor:<name>` for all pictures of one contributor, `pictures:<numbers>` for those
    training pictures (`removal_sets.settled`), or `same:<fact>` for all training pictures of the target's family,
    contributor or label, as its prompt tells them. `features` are those of each model that the methods look at. Every
    arm, removals, `random_draws` random sets of each size and nothing removed, is trained with the same `train_seeds`
    seeds, none of them the original's. (Jobs and comparisons from
    before that was so call it `floor_seeds`: other seeds had the noise floor alone.) With nothing removed further
    models may be trained, `floor_models` in all, so that the noise floor is no single model's.

    `take_over` is the timestep, of 1,000, below which the retrained models draw, and the original above. At 1,000 they
    draw all; below, composition stays and details answer. It costs no training: all comparisons of one kind, with
    whatever `take_over`, have the same models.
    """

    dataset: Digest
    facts: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)
    checkpoint: Digest
    targets: tuple[Annotated[str, Field(pattern=DRAWN)], ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    remove: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    group: Group = "none"
    random_draws: int = Field(default=2, ge=1, le=100)
    train_seeds: int = Field(default=1, ge=1, le=100, validation_alias=AliasChoices("train_seeds", "floor_seeds"))
    floor_models: int = Field(default=1, ge=1, le=100, exclude_if=lambda value: value == 1)
    take_over: TakeOver = DIFFUSION_STEPS
    bottom: bool = True
    encoder: EmbeddingModel = "efficientnet-lite0"
    encoder_weights: EncoderWeights = Field(default=(), exclude_if=lambda value: not value)
    features: tuple[FeatureSettings, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> CounterfactualSettings:
        for name in ("targets", "methods", "remove"):
            if len(set(values := getattr(self, name))) != len(values):
                raise ValueError(f"{name} {list(values)} names something twice; name each once")
        return self


def answers(made: CounterfactualSettings, asked: CounterfactualSettings) -> bool:
    """Say whether a comparison that was made answers what is asked: the same question, as many controls and seeds."""
    enough = all(getattr(made, name) >= getattr(asked, name) for name in _CERTAIN)
    return enough and _question(made) == _question(asked)


def _question(settings: CounterfactualSettings) -> CounterfactualSettings:
    """Return settings without what makes an answer surer, and whatever the order of targets."""
    return settings.model_copy(update={"targets": tuple(sorted(settings.targets))} | dict.fromkeys(_CERTAIN, 1))


class TrialSettings(Settings):
    """A training without some pictures (ascending), beside `random_draws` random sets of as many and nothing removed.

    Every arm has the same `train_seeds` seeds, none of them the original's, and is measured by the mean denoising loss
    over `targets`, held-out pictures.
    """

    dataset: Digest
    checkpoint: Digest
    removed: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    targets: tuple[TargetId, ...] = Field(min_length=1)
    random_draws: int = Field(default=3, ge=1, le=100)
    train_seeds: int = Field(default=1, ge=1, le=100)
    num_timesteps: EvenGrid = 50
    noise_seed: Seed = 0
