"""Credits as files: everything that they are of, nothing that runs, and the same numbers in all of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from dtrak_core.datasets.catalogue import Dataset, Split
from dtrak_core.errors import SettingsError
from dtrak_core.methods import credit_page, credit_sheet, set_credit
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.plans import Scores
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint

NAMES = ["<b>Ada</b> & co", "=HYPERLINK(1)", "Cy"]


@pytest.fixture
def sheet(pictures: Dataset, checkpoint: Checkpoint) -> Sheet:
    """Return credit of six pictures for three contributors, by scores made up."""
    own = [row | {"contributor": NAMES[i % 3], "name": f"disc {i}"} for i, row in enumerate(pictures.train.rows)]
    of = dataclasses.replace(pictures, train=Split(pictures.train.images, own), licence="CC BY 4.0", credit="")
    values = np.random.default_rng(0).normal(size=(6, 24)) + (np.arange(24) % 3 == 0)
    made = {"dataset": of.name, "feature_settings": {"num_timesteps": 10}}
    explained = tuple(targets.of_split(pictures.held_out, "held-out", i) for i in range(6))
    found = Scores("d-trak", values, 0.5, 3.6, made)
    return Sheet(set_credit.over(values, own), "D-TRAK", found, of, checkpoint, explained, {"sentence": "Not yet."})


def test_json_and_csv_hold_the_same_numbers_with_what_made_them(sheet: Sheet) -> None:
    told = json.loads(credit_sheet.to_json(sheet, "2026-01-02"))
    assert (told["date"], told["licence"], told["by"]) == ("2026-01-02", "Licence: CC BY 4.0", "contributor")
    assert told["method"] == {"id": "d-trak", "label": "D-TRAK", "damping": 0.5, "effective_rank": 3.6}
    assert told["dataset"]["digest"] == sheet.dataset.digest
    assert told["checkpoint"]["digest"] == sheet.checkpoint.digest
    assert [one["pixels"] for one in told["targets"]] == [target.pixels for target in sheet.explained]
    first, group = told["groups"][0], sheet.credit.groups[0]
    assert (first["name"], first["share"], first["lift_low"], first["p"]) == (
        group.name,
        group.share,
        group.low,
        group.p,
    )
    best = max(group.members.tolist(), key=lambda i: sheet.credit.means[i])
    assert (first["examples"][0]["index"], first["examples"][0]["name"]) == (best, f"disc {best}")
    lines = list(csv.DictReader(io.StringIO(credit_sheet.to_csv(sheet, "2026-01-02").decode())))
    assert [line["contributor"].lstrip("'") for line in lines] == [one["name"] for one in told["groups"]]
    assert all(not line["contributor"].startswith("=") for line in lines)
    for line, one in zip(lines, told["groups"], strict=True):
        assert [float(line[name]) for name in ("share", "lift", "lift_high")] == [
            one[name] for name in ("share", "lift", "lift_high")
        ]
        assert (line["licence"], line["dataset_digest"], line["method"]) == (
            "Licence: CC BY 4.0", sheet.dataset.digest, "d-trak"
        )  # fmt: skip


def test_the_page_stands_alone_and_runs_nothing(sheet: Sheet) -> None:
    page = credit_page.to_html(sheet, "2026-01-02").decode()
    assert "&lt;b&gt;Ada&lt;/b&gt; &amp; co" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert {address[:22] for address in re.findall(r'(?:src|href)="([^"]*)"', page)} == {"data:image/png;base64,"}
    assert page.count("<img ") == page.count(' alt="') >= 6 + 3
    for said in (
        "2026-01-02",
        "CC BY 4.0",
        sheet.dataset.digest,
        sheet.checkpoint.digest,
        "D-TRAK (d-trak)",
        "Not yet.",
    ):
        assert said in page
    group = sheet.credit.groups[0]
    assert f"{group.low:.2f} to {group.high:.2f}" in page


def test_a_name_with_another_ending_is_refused() -> None:
    assert credit_page.writer(Path("a/Credits.HTML")) is credit_page.to_html
    with pytest.raises(SettingsError, match=r"Let it end in \.html, \.csv, \.json"):
        credit_page.writer(Path("credits.pdf"))
