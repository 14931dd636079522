"""Settings: equal ones have equal keys, any change has another, bad values give sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import bases, text_families
from dtrak_core.models.settings import LoraSettings, ModelSettings, SampleSettings, TrainSettings
from dtrak_core.settings import build, canonical_json, digest_of, key_of
from dtrak_core.training.presets import PRESETS, train_settings

A, B = "a" * 16, "b" * 16

features = st.builds(
    FeatureSettings,
    dataset=st.sampled_from([A, B]),
    checkpoint=st.sampled_from([A, B]),
    model_output=st.sampled_from(["loss", "squared-output", "l1-norm"]),
    num_timesteps=st.sampled_from([1, 10, 50, 100]),
    noise_seed=st.integers(0, 3),
    projection=st.sampled_from(["sparse", "gaussian", "none"]),
    proj_dim=st.sampled_from([16, 4096]),
    storage=st.sampled_from(["float32", "int8"]),
)


@given(features, features)
def test_keys_are_equal_exactly_when_settings_are(one: FeatureSettings, other: FeatureSettings) -> None:
    assert (key_of("features", one) == key_of("features", other)) == (one == other)


@given(features)
def test_settings_survive_json_and_defaults_written_out(one: FeatureSettings) -> None:
    again = FeatureSettings.model_validate_json(canonical_json(one))
    assert again == one
    assert key_of("features", again) == key_of("features", one)


def test_a_number_given_as_text_is_the_same_setting() -> None:
    one = build(SampleSettings, checkpoint=A, seed="3", sampling_steps="50")
    assert key_of("samples", one) == key_of("samples", SampleSettings(checkpoint=A, seed=3))


def test_the_kind_is_part_of_the_key() -> None:
    settings = FeatureSettings(dataset=A, checkpoint=B)
    assert key_of("features", settings) != key_of("kernels", settings)


def test_digest_depends_on_where_parts_end() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_timesteps": 7}, "num_timesteps 7 does not divide 1000; choose 1, 2"),
        ({"eta": 0.5}, "eta 0.5 has no meaning for 'squared-output'"),
        ({"proj_dim": 0}, "Setting 'proj_dim' is 0: input should be greater than or equal to 1."),
        ({"model_output": "mse"}, "Setting 'model_output' is 'mse': input should be 'loss'"),
        ({"checkpoint": "demo"}, "Setting 'checkpoint' is 'demo'"),
        ({"lamb": 1}, "Setting 'lamb' does not exist; remove it."),
    ],
)
def test_bad_values_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        build(FeatureSettings, **{"dataset": A, "checkpoint": B, **values})
    assert said in str(error.value)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(SettingsError, match="Setting 'checkpoint' is missing; give it"):
        build(FeatureSettings, dataset=A)


def test_nan_is_refused() -> None:
    with pytest.raises(SettingsError, match="eta"):
        build(FeatureSettings, dataset=A, checkpoint=B, model_output="interpolated", eta=float("nan"))


def test_settings_cannot_be_changed() -> None:
    settings = SampleSettings(checkpoint=A)
    with pytest.raises(ValidationError):
        settings.seed = 4  # type: ignore[misc]


def test_channels_and_levels_must_fit() -> None:
    with pytest.raises(SettingsError, match="2 levels, attention 1"):
        build(ModelSettings, attention=(True,))
    with pytest.raises(SettingsError, match=r"channels \[50\] cannot be divided into norm_groups=8"):
        build(ModelSettings, channels=(48, 50))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="'feature' is not a kind of artifact"):
        key_of("feature", SampleSettings(checkpoint=A))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_and_changes_are_taken(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "layers", lambda digest, chosen: text_families.ATTENTION)  # there is no base of digest A
    base = A if PRESETS[preset].model is None else ""
    built = train_settings(preset, A, base)
    assert built.model == (PRESETS[preset].model or LoraSettings(base=A, **PRESETS[preset].lora))
    assert train_settings(preset, A, base, epochs=3, train_seed=None).epochs == 3
    assert type(TrainSettings(**built.model_dump()).model) is type(built.model), (
        "the kind of model is told from its fields"
    )
