"""Addresses: a value that cannot be is named with what is shown instead; the choices of a page stand in its address."""

from __future__ import annotations

import pytest
from page_helpers import opened

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models.checkpoints import Checkpoint

Small = tuple[Dataset, Checkpoint]
BAD = [
    ("", {"label": "all", "contributor": "all", "page": "1"}),
    ("", {"sampler": "ddim", "sampling_steps": "50", "guidance": "7.5", "eta": "0"}),
    ("generate", {"tab": "Draw pictures"}),
    ("attribution", {"proponents": "5", "opponents": "3", "details": "Credit by contributor"}),
    ("attribution", {"timesteps": "usual (2)", "dimension": "usual (128)", "output": "each method's own"}),
    ("credit", {"method": "D-TRAK", "by": "Contributor", "who": "Ada"}),
    ("copies", {"question": "Are they copies?", "space": "Pixels"}),
    ("doctor", {"check": "Duplicates"}),
    ("map", {"by": "EfficientNet-Lite0", "colour": "Score"}),
    ("benchmark", {"part": "Known answers"}),
    ("jobs", {"list": "Cache", "kind": "datasets"}),
]


@pytest.mark.parametrize(("page", "shown"), BAD)
def test_a_value_that_cannot_be_is_named_with_what_is_shown(small: Small, page: str, shown: dict[str, str]) -> None:
    at = opened(page, **{name: "Cache" if name == "list" else "9999" for name in shown})
    said = [one.value.replace("\\", "") for one in at.warning]
    asked = [value for name, value in shown.items() if name != "list"]
    assert sorted(one.split("showing ")[-1] for one in said) == sorted(f"'{value}'." for value in asked)
    assert all("cannot be '9999', as the address says" in one for one in said)
    assert not at.run().warning, "it is said once"


GOOD = [
    ("", {"label": "red", "contributor": "Ada", "sampler": "ddim", "sampling_steps": "50", "guidance": "7.50"}),
    ("attribution", {"proponents": "7", "opponents": "0", "details": "All scores", "dimension": "1,024"}),
    ("credit", {"method": "TRAK", "by": "Label", "who": "red", "seeds": "0-3"}),
    ("map", {"by": "Pixels", "colour": "Label", "find": "disc"}),
    ("jobs", {"list": "Cache", "kind": "features"}),
]


@pytest.mark.parametrize(("page", "said"), GOOD)
def test_of_values_that_can_be_nothing_is_said(small: Small, page: str, said: dict[str, str]) -> None:
    assert not opened(page, **said).warning


def test_the_method_of_each_detail_stands_in_the_address(small: Small) -> None:
    for details, key in (("Credit by contributor", "credit-method"), ("All scores", "curve-method")):
        at = opened("attribution", details=details, **{key: "TRAK"})
        assert at.segmented_control(key=key).value == "trak"
        at = opened("attribution", details=details, **{key: "nosuch"})
        assert [one.value for one in at.warning] == [
            "'Method' cannot be 'nosuch', as the address says; showing 'D\\-TRAK'."
        ]
    at = opened("attribution", details="Layers and noise levels", **{"fader-method": "TRAK"})
    assert at.segmented_control(key="fader-method").value == "trak"
