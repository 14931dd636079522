"""Keys are pinned: settings whose JSON comes out otherwise would silently lose all that was stored before.

So it was under a pydantic too old to leave fields out at their default. A kind whose numbers change on purpose gets
another format number in `kinds.KINDS`, and its key here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtrak_core import settings, store
from dtrak_core.counterfactual.settings import CounterfactualSettings, OutcomeSettings
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.features.directions import DirectionSettings
from dtrak_core.features.settings import FeatureSettings, TargetFeatureSettings
from dtrak_core.jobs import housekeeping
from dtrak_core.jobs.job_kinds import SampleJob, TrainJob, key_of_job
from dtrak_core.kinds import KINDS
from dtrak_core.lds import subset_models
from dtrak_core.lds.predictions import PredictionSettings, ScoredSettings
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LossSettings
from dtrak_core.methods.fader_scores import RepeatSettings
from dtrak_core.methods.settings import EmbeddingSettings, InfluenceSettings, PatchSettings
from dtrak_core.models import settings as model_settings
from dtrak_core.models import targets
from dtrak_core.models.bases import BaseSettings
from dtrak_core.models.captions import CaptionSettings
from dtrak_core.models.latents import LatentSettings
from dtrak_core.models.settings import (
    ImportSettings,
    LoraSettings,
    ModelSettings,
    ProbeSettings,
    SampleSettings,
    TrainSettings,
)
from dtrak_core.models.uploads import UploadSettings
from dtrak_core.settings import Settings, key_of

A, B = "a" * 16, "b" * 16
FEATURES = FeatureSettings(dataset=A, checkpoint=B)
TARGET = TargetFeatureSettings(features=FEATURES, target="seed:3", pixels=A)
SHARED = {"dataset": A, "checkpoint": B, "targets": ("seed:3",)}
STORED: dict[str, list[Settings]] = {
    "datasets": [DatasetSettings()],
    "checkpoints": [
        TrainSettings(dataset=A),
        TrainSettings(dataset=A, model=LoraSettings(base=B)),
        ImportSettings(source="model", weights_digest=B, dataset=A),
        ImportSettings(source="model", weights_digest=B, dataset=A, base=B),
    ],
    "retrained": [TrainSettings(dataset=A, indices=(0, 2), train_seed=1)],
    "probes": [ProbeSettings(model=ModelSettings(), resolution=16, batch_size=32)],
    "samples": [SampleSettings(checkpoint=B, seed=3), SampleSettings(checkpoint=B, prompts=("a cat",), guidance=3.0)],
    "features": [FEATURES, FeatureSettings(dataset=A, checkpoint=B, normalise="timestep", parts="faders")],
    "kernels": [FEATURES],
    "directions": [DirectionSettings(features=FEATURES, reflections="0a1b2c3d")],
    "residuals": [FEATURES],
    "target-features": [TARGET, TARGET.model_copy(update={"trajectory": True})],
    "embeddings": [EmbeddingSettings(model="efficientnet-lite0", pixels=A)],
    "uploads": [UploadSettings(pixels=A)],
    "outcomes": [
        OutcomeSettings(sample=SampleSettings(checkpoint=B), removed=(1, 2), train_seed=4, encoder="efficientnet-lite0")
    ],
    "comparisons": [CounterfactualSettings(**SHARED, methods=("d-trak",), remove=(3,), features=(FEATURES,))],
    "subset-losses": [LossSettings(**SHARED, subset=1, train_seed=0)],
    "patches": [PatchSettings(dataset=A, target="seed:3", pixels=B)],
    "ekfac": [InfluenceSettings(dataset=A, checkpoint=B, target="seed:3", pixels=B)],
    "predictions": [
        PredictionSettings(**SHARED, recipe=Recipe(method="d-trak", features=FEATURES), num_subsets=8, share=0.5)
    ],
    "scores": [ScoredSettings(**SHARED, recipe=Recipe(method="nda"))],
    "bases": [BaseSettings(digest=A)],
    "repeats": [RepeatSettings(method="d-trak", target=TARGET)],
    "latents": [LatentSettings(dataset=A, base=B)],
    "captions": [CaptionSettings(base=A, captions=B)],
}
KEYS = {
    "datasets": ["0b1d143049e9a6cd"],
    "checkpoints": ["c4f190edb27c845e", "b5bdc4824388d4d3", "979a2d55779fbc9d", "ee2b289654be2f76"],
    "retrained": ["f34d9e16ec95bbc3"],
    "probes": ["bd36513eca865504"],
    "samples": ["a8a620b26a5d15ab", "7b4ac7fdd44fa3fe"],
    "features": ["8c4c6d12632ea499", "9852fc55e864da98"],
    "kernels": ["5200c8c4fe0a4189"],
    "directions": ["d6830200d5120c08"],
    "residuals": ["4bce925feb0f3278"],
    "target-features": ["802d6778df88881a", "29e70a7d3bd8ecc7"],
    "embeddings": ["e4f2618e1826a444"],
    "uploads": ["2e57565d9997600d"],
    "outcomes": ["ed2589f728f49d69"],
    "subset-losses": ["4a17e357e84135d7"],
    "patches": ["c02a8bdc4fb18682"],
    "ekfac": ["7c6a297aa33903db"],
    "predictions": ["0b77f4c53ed842a7"],
    "scores": ["de846e19664b6fa2"],
    "bases": ["7d4a80fcee287e9d"],
    "latents": ["adeda8d943a56d4c"],
    "captions": ["cab33eb3057bece7"],
    "repeats": ["bbe4f323c4dc3274"],
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_what_they_were(kind: str) -> None:
    assert [key_of(kind, settings) for settings in STORED[kind]] == KEYS[kind]


def test_keys_of_jobs_are_what_they_were() -> None:
    asked = [SampleJob(checkpoint=B, seeds=(0, 7)), TrainJob(train=TrainSettings(dataset=A), name="mine")]
    assert [key_of_job(job) for job in asked] == ["5ea59372aadb952b", "dd31a096ffcf2f5e"]


@pytest.mark.parametrize("kind", KEYS)  # comparisons that ship are of an older form, which test_counterfactual.py opens
def test_what_ships_is_found_under_the_key_of_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path))
    for artifact in store.listing(kind):
        classes = {type(settings) for settings in STORED[kind]}
        fitting = [cls for cls in classes if artifact.settings.keys() <= cls.model_fields.keys()]
        keys = {key_of(kind, cls(**artifact.settings)) for cls in fitting}
        assert artifact.key in keys, f"{kind}/{artifact.key} is not found any more"


HOW = {"prompts": ("a cat", "a dog")}
DRAWING: list[tuple[str, Settings]] = [  # all that holds how pictures are drawn, but no digest of them
    ("samples", SampleSettings(checkpoint=B, seed=3, prompts=("a cat",))),
    ("outcomes", STORED["outcomes"][0].model_copy(update={"sample": SampleSettings(checkpoint=B, prompts=("a cat",))})),
    *((kind, STORED[kind][0].model_copy(update=HOW)) for kind in ("comparisons", "subset-losses", "predictions")),
    ("scores", STORED["scores"][0].model_copy(update=HOW)),
]
NOISY = [{"sampler": "ddpm"}, {"eta": 0.5}, {"sampler": "ddpm", "eta": 1.0}]


def drawn(one: Settings, **how: object) -> Settings:
    if isinstance(one, OutcomeSettings):
        return one.model_copy(update={"sample": one.sample.model_copy(update=how)})
    return one.model_copy(update=how)


def stored_before(kind: str, one: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """Store an artifact as it was before the sampler's last step was mended; return its key."""
    with monkeypatch.context() as before:
        before.setattr(settings, "_redrawn", lambda _: False)
        key = key_of(kind, one)
        store.write_bytes(store.partial(kind, key) / "data", b"?")
        assert store.publish(kind, key, one, name="old", pixels=A).path.is_dir()
    return key


def test_all_settings_that_say_how_pictures_are_drawn_are_tried() -> None:
    def holds(cls: type[Settings]) -> bool:
        inner = [field.annotation for field in cls.model_fields.values()]
        return any(isinstance(one, type) and issubclass(one, model_settings.Sampled) for one in [cls, *inner])

    assert {kind for kind, many in STORED.items() if any(holds(type(one)) for one in many)} == dict(DRAWING).keys()
    assert {kind for kind, _ in DRAWING} <= set(KINDS)


@pytest.mark.parametrize("how", NOISY, ids=str)
@pytest.mark.parametrize(("kind", "plain"), DRAWING, ids=[kind for kind, _ in DRAWING])
def test_what_leans_on_a_picture_that_is_drawn_otherwise_now_is_not_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str, plain: Settings, how: dict[str, object]
) -> None:
    noisy = drawn(plain, **how)
    key, kept = stored_before(kind, noisy, monkeypatch), stored_before(kind, plain, monkeypatch)
    assert kept == key_of(kind, plain), "what DDIM draws without fresh noise is what it was"
    assert key != key_of(kind, noisy)
    assert store.find(kind, key) is None
    assert [found.key for found in store.listing(kind) if not found.shipped] == [kept]
    rows = {row["key"]: row["name"] for row in housekeeping.stored(kind) if not row["shipped"]}
    assert rows == {key: "outdated", kept: "old"}
    assert housekeeping.verified(kind) == []
    assert housekeeping.deleted(kind, [key]) > 0
    assert not (cache / kind / key).exists()


def test_a_picture_that_was_drawn_otherwise_is_drawn_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = model_settings.Sampled(sampler="ddpm", prompts=("a cat",))
    wanted = targets.sample_settings(B, 3, how)
    stored_before("samples", wanted, monkeypatch)
    stored_before("subset-losses", LossSettings(**SHARED, **how.drawing(), subset=1, train_seed=0), monkeypatch)
    assert targets.find_sample(wanted) is None
    assert targets.samples(B, how) == []
    assert subset_models.of_checkpoint(A, B) == []
    image = np.full((16, 16, 3), 7, np.uint8)
    made = targets.publish_sample(wanted, image)
    assert (targets.find_sample(wanted) or made).pixels == made.pixels != A
    assert [target.pixels for target in targets.samples(B, how)] == [made.pixels]


def test_pictures_from_noise_alone_keep_their_keys() -> None:
    for how in NOISY:
        one = SampleSettings(checkpoint=B, seed=3, **how)  # type: ignore[arg-type]
        assert key_of("samples", one) == settings.digest_of("samples", "1", settings.canonical_json(one))


def test_the_pydantic_that_is_asked_for_leaves_fields_out() -> None:
    """`exclude_if` came with 2.12; older ones take it without a word and write the field."""
    line = next(line for line in (store.PROJECT / "requirements.txt").read_text().splitlines() if "pydantic" in line)
    assert line.startswith("pydantic>=2.12,<3")
