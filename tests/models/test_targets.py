"""Targets: ids, generated pictures, uploads, and what is said where there is none."""

from __future__ import annotations

import datetime
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core.datasets import catalogue, thumbnails
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.errors import DataError, NotFoundError, SettingsError
from dtrak_core.features import features
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import networks, targets
from dtrak_core.models.settings import ModelSettings, Sampled, SampleSettings
from dtrak_core.progress import quiet

CHECKPOINT = "c" * 16


def random_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_a_column_called_settings_is_the_users_own(cache: Path, tmp_path: Path, tiny: ModelSettings) -> None:
    folder = tmp_path / "cats"
    folder.mkdir()
    lines = ["file_name,prompt,settings"]
    for i in range(10):
        Image.fromarray(random_image(i)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,a cat,steps 20")
    (folder / "metadata.csv").write_text("\n".join(lines))
    cats = catalogue.load(catalogue.prepare(catalogue.source_settings("folder", folder, "cats", 16), folder))
    target = targets.resolve(cats, CHECKPOINT, "train:0")
    assert target.row["settings"] == "steps 20"
    assert (target.prompt, target.mark, target.sampled) == ("a cat", "train:0", Sampled())
    denoiser = networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)
    settings = FeatureSettings(dataset=cats.digest, checkpoint=CHECKPOINT, num_timesteps=1, proj_dim=64)
    assert features.compute_features(cats, denoiser, settings, quiet).manifest["rows"] == len(cats.train.images)
    assert features.compute_target_features(denoiser, settings, [target], quiet)


def test_generated_pictures_come_back_by_seed_and_sampler(pictures: Dataset) -> None:
    for seed in (7, 2):
        targets.publish_sample(SampleSettings(checkpoint=CHECKPOINT, seed=seed), random_image(seed))
    targets.publish_sample(SampleSettings(checkpoint=CHECKPOINT, seed=2, sampling_steps=20), random_image(20))
    found = targets.samples(CHECKPOINT)
    assert [t.id for t in found] == ["seed:2", "seed:7"]
    np.testing.assert_array_equal(found[1].image, random_image(7))
    assert found[1].pixels == image_digest(random_image(7))
    other = targets.resolve(pictures, CHECKPOINT, "seed:2", Sampled(sampling_steps=20))
    np.testing.assert_array_equal(other.image, random_image(20))
    with pytest.raises(NotFoundError, match="The picture of seed 9 has not been generated"):
        targets.resolve(pictures, CHECKPOINT, "seed:9")


@pytest.mark.parametrize(("name", "split"), [("held-out:3", "held_out"), ("train:3", "train")])
def test_dataset_pictures_are_targets(pictures: Dataset, name: str, split: str) -> None:
    target = targets.resolve(pictures, CHECKPOINT, name)
    np.testing.assert_array_equal(target.image, getattr(pictures, split).images[3])
    assert target.row["label"] == getattr(pictures, split).rows[3]["label"]


@pytest.mark.parametrize(
    "name", ["3", "seed:", "seed:x", "picture:3", "train:-1", "upload:", "upload:zz", "train:" + "9" * 5000]
)
def test_other_ids_are_explained(pictures: Dataset, name: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a target. Write seed:3 \(generated\)"):
        targets.resolve(pictures, CHECKPOINT, name)


def test_numbers_outside_say_how_many_there_are(pictures: Dataset) -> None:
    with pytest.raises(NotFoundError, match="held-out:8 does not exist: there are 8, numbered from 0"):
        targets.resolve(pictures, CHECKPOINT, "held-out:8")


def test_an_upload_is_cropped_kept_and_found_again(pictures: Dataset) -> None:
    wide = np.full((32, 64, 3), 255, np.uint8)
    wide[:, 16:48] = (10, 200, 30)
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    target = targets.keep_upload(pictures, buffer.getvalue(), "mine.png")
    assert target.image.shape == (16, 16, 3)
    np.testing.assert_array_equal(target.image[8, 8], (10, 200, 30))
    again = targets.resolve(pictures, CHECKPOINT, target.id)
    np.testing.assert_array_equal(again.image, target.image)
    assert again.caption == "mine.png"
    assert targets.keep_upload(pictures, buffer.getvalue(), "renamed.png").caption == "renamed.png"
    assert targets.resolve(pictures, CHECKPOINT, target.id).caption == "renamed.png"
    foreign = "caf\udce9.png"  # as Python gives a name in another encoding
    assert targets.keep_upload(pictures, buffer.getvalue(), foreign).caption == "caf.png"
    with pytest.raises(DataError):
        targets.keep_upload(pictures, b"no picture", "mine.txt")
    with pytest.raises(NotFoundError, match="No uploaded picture has the digest"):
        targets.resolve(pictures, CHECKPOINT, f"upload:{'0' * 16}")


@pytest.mark.parametrize("size", [16, 50, 128])
def test_thumbnails_are_lossless_and_enlarged_whole(size: int) -> None:
    image = random_image(1)
    times = max(1, size // 16)
    shown = thumbnails.decode(thumbnails.png(image, size))
    assert shown.shape == (16 * times, 16 * times, 3)
    np.testing.assert_array_equal(shown[::times, ::times], image)
    np.testing.assert_array_equal(shown[times - 1 :: times, times - 1 :: times], image)


def test_a_sheet_holds_each_picture_at_its_place() -> None:
    images = np.stack([random_image(i) for i in range(5)])
    shown = thumbnails.decode(thumbnails.sheet(images, columns=3, gap=2))
    assert shown.shape == (34, 52, 3)
    np.testing.assert_array_equal(shown[18:34, 18:34], images[4])
    assert (shown[:, 16:18] == 255).all()


def draw(seed: int, prompt: str, **how: object) -> targets.Target:
    settings = SampleSettings(checkpoint=CHECKPOINT, seed=seed, prompts=(prompt,), **how)  # type: ignore[arg-type]
    return targets.publish_sample(settings, random_image(seed + 1000 * len(prompt)))


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let every artifact be made a day after the one before, so that their order is known."""
    count = itertools.count(1)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2026, 1, 1, tzinfo=tz) + datetime.timedelta(days=next(count))

    monkeypatch.setattr(datetime, "datetime", Clock)
    return count


TURN = Sampled(prompts=("a cat", "a dog", "a cow"), guidance=4.0)


def test_a_prompt_of_ones_own_leaves_the_usual_ones_alone(cache: Path, days: Iterator[int]) -> None:
    for seed in (4, 0, 1, 2, 3, 5):
        draw(seed, TURN.prompt_of(seed), guidance=4.0)
    assert targets.usual(CHECKPOINT) == TURN
    draw(0, "woman astronaut", guidance=4.0)
    draw(100, "woman astronaut", guidance=4.0)
    for seed in range(20):
        draw(seed, "a red house", guidance=2.0)
        draw(200 + seed, "a red house", guidance=4.0)
    assert targets.usual(CHECKPOINT) == TURN
    assert len(targets.samples(CHECKPOINT)) == 48


def test_prompts_that_follow_no_turn_are_all_of_them(cache: Path, days: Iterator[int]) -> None:
    assert targets.usual(CHECKPOINT) == Sampled()
    for seed, prompt in enumerate(("a cat", "a dog", "a dog", "a cow")):
        draw(seed, prompt)
    assert targets.usual(CHECKPOINT) == Sampled(prompts=("a cat", "a dog", "a dog", "a cow"))


def test_pictures_of_any_prompts_are_drawn_together(cache: Path) -> None:
    plain = [draw(seed, TURN.prompt_of(seed), guidance=4.0) for seed in (0, 1, 5)]
    assert targets.together(plain, TURN) == TURN
    own = draw(3, "woman astronaut", guidance=4.0)
    how = targets.together([*plain, own], TURN)
    assert [how.prompt_of(seed) for seed in (0, 1, 5, 3)] == ["a cat", "a dog", "a cow", "woman astronaut"]
    assert how.guidance == 4.0
    with pytest.raises(SettingsError, match="2 of these pictures are of seed 0"):
        targets.together([plain[0], draw(0, "woman astronaut", guidance=4.0)], TURN)
    with pytest.raises(SettingsError, match="DDIM 50, 2 and DDIM 50, 4"):
        targets.together([plain[0], draw(7, "a dog", guidance=2.0)], TURN)


def test_pictures_without_prompts_are_drawn_the_usual_way(cache: Path) -> None:
    plain = [
        targets.publish_sample(SampleSettings(checkpoint=CHECKPOINT, seed=seed), random_image(seed)) for seed in (1, 2)
    ]
    assert targets.together(plain, Sampled()) == Sampled()
