"""Copies: sentences and pairs of what is stored, links that lead on, and what embeddings still need."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
from page_helpers import galleries, opened

from dtrak_core.amounts import ranges_of
from dtrak_core.counterfactual import copy_sheet
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import EmbedJob
from dtrak_core.methods import copies, set_scores, works
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import gallery
from dtrak_core.ui.copies import work

Small = tuple[Dataset, Checkpoint]


def said(at: Any) -> str:
    return " ".join(text.value for text in at.markdown).replace("\\", "")


def test_pairs_are_shown_with_their_numbers_and_lead_on(small: Small) -> None:
    dataset, checkpoint = small
    found = copies.find("pixels", dataset, checkpoint, set_scores.drawn(checkpoint.digest))
    at = opened("copies")
    told = copy_sheet.sheet(found, dataset, checkpoint, [])
    for line in copy_sheet.sentences(told):
        assert line in said(at)
    (part,) = galleries(at)["copies"]["rows"][0]["parts"]
    assert [item["key"] for item in part["items"]] == [one.target.mark for one in found.found]
    second = found.found[1]
    at = opened("copies", pair=second.target.mark)
    (part,) = galleries(at)["pair"]["rows"][0]["parts"]
    assert part["items"][1]["key"] == str(second.nearest)
    assert f"; {copy_sheet.too_few(len(found.reference))}" in said(at), "and no p of so few"
    (link,) = (each.proto for each in at.get("page_link") if each.proto.label.startswith("What if"))
    assert f"pictures={ranges_of(second.alike)}".replace(",", "%2C") in link.query_string
    assert "sample=seed%3A" in link.query_string


def test_every_picture_is_on_a_page_and_a_link_opens_its_own(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, checkpoint = small
    monkeypatch.setattr(gallery, "page", functools.partial(gallery.page, most=2))
    found = copies.find("pixels", dataset, checkpoint, set_scores.drawn(checkpoint.digest)).found
    at = opened("copies", pair=found[-1].target.mark)
    assert not at.warning
    (part,) = galleries(at)["pair"]["rows"][0]["parts"]
    assert part["items"][1]["key"] == str(found[-1].nearest)
    for number in (3, 1, 2):
        if number != 3:
            at.session_state["copies-page-pixels"] = number
            at.run()
        (part,) = galleries(at)["copies"]["rows"][0]["parts"]
        assert [item["key"] for item in part["items"]] == [
            one.target.mark for one in found[2 * number - 2 : 2 * number]
        ]


def test_embeddings_are_offered_as_one_job(small: Small) -> None:
    at = opened("copies", space="EfficientNet-Lite0")
    assert "None of" in said(at)
    at.button(key=next(b.key for b in at.button if b.label == "Compute")).click().run()
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert isinstance(asked, EmbedJob)
    assert {name.partition(":")[0] for name in asked.targets} == {"seed", "held-out"}


def test_a_report_names_the_model_that_is_looked_at(small: Small) -> None:
    dataset, checkpoint = small
    found = works.find(dataset, checkpoint, targets.keep_upload(dataset, thumbnails.png(dataset.train.images[9]), "x"))
    plan = work._plan(dataset, checkpoint, set_scores.drawn(checkpoint.digest))
    assert plan is not None
    for name in ("tiny", "again"):  # the same weights
        told = work._sheet(dataset, dataclasses.replace(checkpoint, name=name), found, [9], plan)
        assert told.checkpoint.name == name


def test_a_work_is_followed_to_what_it_helped(small: Small) -> None:
    dataset, _ = small
    kept = targets.keep_upload(dataset, thumbnails.png(dataset.train.images[7]), "mine.png")
    at = opened("copies", work=kept.pixels)
    assert "mine.png is in the training set" in said(at)
    assert "7" in galleries(at)["matches"]["chosen"]
    assert len(galleries(at)["helped"]["rows"][0]["parts"][0]["items"]) == 3, "of which there are scores"
    assert "3 of 5 pictures are ready" in said(at)
    (link,) = (each.proto for each in at.get("page_link") if each.proto.label.startswith("Draw again"))
    assert "pictures=7" in link.query_string
    at = opened("copies", work=kept.pixels, mine="3-4")
    assert galleries(at)["matches"]["chosen"] == ["3", "4"]
    assert not at.warning
    at = opened("copies", work=kept.pixels, mine="3-4,900")
    assert galleries(at)["matches"]["chosen"] == ["3", "4"]
    assert "The address names \\#900" in at.warning[0].value
    assert "No uploaded picture has the digest" in opened("copies", work="0" * 16).warning[0].value
