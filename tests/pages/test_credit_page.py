"""Credit: the sentences, numbers and pictures of what is stored; what is missing is offered; links reopen it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from page_helpers import galleries, opened

from dtrak_core import __version__, store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.methods import defaults, scores, set_credit
from dtrak_core.methods.methods import METHODS
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import resolve
from dtrak_core.settings import key_of
from dtrak_core.ui import gallery

Small = tuple[Dataset, Checkpoint]


def credit(small: Small, seeds: int) -> set_credit.SetCredit:
    dataset, checkpoint = small
    explained = [resolve(dataset, checkpoint.digest, f"seed:{i}") for i in range(seeds)]
    base = defaults.base_for(dataset.digest, checkpoint.digest, METHODS["d-trak"], {})
    found = scores.score(scores.resolve("d-trak", dataset, checkpoint.digest, explained, base), rank_share=0.15)
    return set_credit.over(found.values, dataset.train.rows, "contributor")


def said(at: Any) -> str:
    """Return what stands on the page as text, as it is read."""
    return " ".join(text.value for text in at.markdown).replace("\\", "")


def test_what_is_ready_is_credited_and_the_rest_is_offered(small: Small) -> None:
    at = opened("credit")
    wanted = credit(small, 3)
    table = at.dataframe[0].value
    assert at.dataframe[0].proto.alt == "Share of D-TRAK's credit by contributor, beside share of the training pictures"
    assert list(table["Contributor"]) == [group.name for group in wanted.groups]
    assert list(table["Credit"]) == pytest.approx([100 * group.share for group in wanted.groups])
    assert list(table["Times"]) == pytest.approx([group.lift for group in wanted.groups])
    assert "Over 3 generated pictures, D-TRAK spreads the credit" in said(at)
    shown = galleries(at)
    best = wanted.groups[0]
    (part,) = shown["members"]["rows"][0]["parts"]
    assert [item["key"] for item in part["items"]] == [str(i) for i in best.members[:24]]
    (helped,) = shown["helped"]["rows"][0]["parts"]
    order = np.argsort(-wanted.helped[:, 0], kind="stable")
    assert [item["key"] for item in helped["items"]] == [f"seed:{i}" for i in order]
    assert "3 of 5 pictures are ready; what follows is of those" in said(at)
    at.button(key=next(b.key for b in at.button if b.label == "Compute")).click().run()
    assert not at.exception
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert isinstance(asked, AttributeJob)
    assert asked.targets == tuple(f"seed:{i}" for i in range(5))


def test_every_picture_can_be_taken_in(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "page", functools.partial(gallery.page, most=2))
    at = opened("credit", seeds="4")
    assert galleries(at)["choices"]["chosen"] == ["seed:4"], "its own page is open"
    at.session_state["credit-page"] = 2
    at.run()
    (part,) = galleries(at)["choices"]["rows"][0]["parts"]
    assert [item["key"] for item in part["items"]] == ["seed:2", "seed:3"]


def test_a_link_names_set_method_grouping_and_whose_pictures(small: Small) -> None:
    at = opened("credit", seeds="0-1", who="Cy")
    wanted = credit(small, 2)
    assert "Over 2 generated pictures" in said(at)
    place = next(i for i, group in enumerate(wanted.groups) if group.name == "Cy")
    (part,) = galleries(at)["members"]["rows"][0]["parts"]
    assert [item["key"] for item in part["items"]] == [str(i) for i in wanted.groups[place].members[:24]]
    assert galleries(at)["choices"]["chosen"] == ["seed:0", "seed:1"]
    assert not at.warning
    at.text_input(key="seeds").set_value("0-1,900").run()
    assert "Over 2 generated pictures" in said(at)
    assert "has not drawn these seeds its usual way: 900" in at.warning[0].value
    at.text_input(key="seeds").set_value("x").run()
    assert "is not a list of seeds" in at.warning[0].value
    at.text_input(key="seeds").set_value("").run()
    at.segmented_control(key="by").set_value("label").run()
    assert set(at.dataframe[0].value["Label"]) == {"red", "green", "blue"}
    at.selectbox(key="method").set_value("raw-pixel-cosine").run()
    assert not at.exception
    assert "Over 5 generated pictures, Raw pixels, cosine" in said(at)
    assert "das-squared" not in at.selectbox(key="method").options
    assert "without one of these groups" in said(at)


def test_the_link_to_leaving_out_fills_the_form_in(small: Small) -> None:
    at = opened("counterfactual", without="Ben")
    assert at.selectbox(key="cf-maker").value == "Ben"
    at.selectbox(key="cf-maker").set_value("").run()
    assert at.selectbox(key="cf-maker").value == ""
    at = opened("counterfactual", pictures="3,7-9")
    assert (at.text_input(key="cf-pictures").value, at.pills(key="cf-methods").value) == ("3,7-9", [])
    at.button(key=next(b.key for b in at.button if b.label == "Remove, retrain, compare")).click().run()
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert asked.settings.methods == ("pictures:3,7-9",)


def test_the_small_print_says_how_the_credit_was_made(small: Small) -> None:
    at = opened("credit")

    def printed() -> str:
        return next(c.value for c in at.caption if small[1].digest in c.value).replace("\\", "")

    features = defaults.base_for(small[0].digest, small[1].digest, METHODS["d-trak"], {})
    assert (
        f"model output squared-output · timesteps {features.num_timesteps} (uniform) · noise seed 0 · projection "
        f"{features.projection} to {features.proj_dim:,} · projection seed {features.proj_seed} · stored as "
    ) in printed()
    stored = store.get("features", key_of("features", features)).manifest
    assert printed().endswith(f"made {stored['date'][:10]} · with version {stored['versions']['dtrak-studio']}")
    at.selectbox(key="method").set_value("raw-pixel-cosine").run()
    assert "timesteps" not in printed()
    assert printed().endswith(f"with version {__version__}")
