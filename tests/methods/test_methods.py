"""The table of methods."""

from __future__ import annotations

from typing import get_args

import pytest

from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.settings import SPOKEN, ModelOutput
from dtrak_core.methods.methods import METHODS, Method, method_of, with_output


def test_the_methods_are_the_papers() -> None:
    assert list(METHODS) == [
        "d-trak",
        "trak",
        "d-trak-ensemble",
        "trak-ensemble",
        "das",
        "das-squared",
        "relative-if",
        "renormalised-if",
        "journey-trak",
        "ek-fac",
        "tracin-cp",
        "gas",
        "gradient-dot",
        "gradient-cosine",
        "nda",
        "clip-dot",
        "clip-cosine",
        "lite0-dot",
        "lite0-cosine",
        "raw-pixel-dot",
        "raw-pixel-cosine",
    ]
    assert METHODS["d-trak"].model_output == "squared-output"
    assert METHODS["trak"].model_output == "loss"
    assert len({m.label for m in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.id)
def test_a_method_says_what_its_family_needs(method: Method) -> None:
    assert (method.model_output is not None) == (method.family == "gradient")
    assert (method.embedding is not None) == (method.family == "embedding")
    assert (method.rank_share is not None) == method.damped
    assert method.cosine == (method.id.endswith("cosine") or method.id == "gas")
    assert method.summary.endswith(".")


@pytest.mark.parametrize("output", SPOKEN)
def test_a_method_says_what_it_does_with_another_model_output(output: ModelOutput) -> None:
    assert SPOKEN.keys() == set(get_args(ModelOutput))
    if output == "interpolated":  # takes a number as well, and is no choice
        return
    for method in METHODS.values():
        if method.model_output is None:
            continue
        own, said = METHODS[method.id].summary, with_output(method, output).summary
        assert not {"{", "}"} & {*said}
        assert (said == own) == (output == method.model_output), said
        assert SPOKEN[output] in said or said == own or f" on {output}" in said
    for other in set(SPOKEN) - {output}:
        assert f"{SPOKEN[other]} depends" not in with_output(METHODS["d-trak"], output).summary
    assert "how the squared size of the model's output depends" in METHODS["d-trak"].summary


def test_an_unknown_method_is_answered_with_the_list() -> None:
    with pytest.raises(NotFoundError, match=r"'dtrak' is not a method.*d-trak, trak"):
        method_of("dtrak")


def test_another_model_output_is_put_into_a_method_of_gradients() -> None:
    found = with_output(METHODS["d-trak"], "squared-clean")
    assert (found.model_output, found.label, found.id) == ("squared-clean", "D-TRAK on squared-clean", "d-trak")
    assert found.rank_share == METHODS["d-trak"].rank_share
    assert with_output(METHODS["d-trak"], "squared-output") is METHODS["d-trak"]
    assert with_output(METHODS["raw-pixel-dot"], None) is METHODS["raw-pixel-dot"]
    with pytest.raises(SettingsError, match="Raw pixels, dot product takes no gradients, so it has no model output"):
        with_output(METHODS["raw-pixel-dot"], "loss")
    with pytest.raises(SettingsError, match="'interpolated' lies between squared-output and loss"):
        with_output(METHODS["trak"], "interpolated")
