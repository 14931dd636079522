"""Rankings, shares, credit and exports, against numbers worked out by hand or by plain loops."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from dtrak_core.datasets import thumbnails
from dtrak_core.errors import SettingsError
from dtrak_core.methods import crediting, figure, results

VALUES = np.array([3.0, -1.0, 0.0, 1.0, 3.0, -5.0])
ROWS = [
    {"name": f"name {i}", "label": "ab"[i % 2], "contributor": who, "family": fam}
    for i, (who, fam) in enumerate([("Ada", "x"), ("Ben", ""), ("", "x"), ("Ben", ""), ("Ada", "y"), ("Cy", "x")])
]


@pytest.fixture
def found() -> results.Ranking:
    return results.ranking("d-trak", "D-TRAK", VALUES, 0.5, 2.25, {"dataset": "toy", "checkpoint": "c1"})


def test_order_is_by_score_then_by_index(found: results.Ranking) -> None:
    assert found.order.tolist() == [0, 4, 3, 2, 1, 5]
    assert found.positive_total == 7.0
    assert [results.rank(found, i) for i in range(6)] == [1, 5, 4, 3, 2, 6]


def test_ends_hold_only_scores_of_their_sign(found: results.Ranking) -> None:
    assert [(e.rank, e.index, e.share) for e in results.proponents(found, 9)] == [
        (1, 0, 3 / 7),
        (2, 4, 3 / 7),
        (3, 3, 1 / 7),
    ]
    assert [(e.rank, e.index, e.score) for e in results.opponents(found, 9)] == [(1, 5, -5.0), (2, 1, -1.0)]
    assert len(results.proponents(found, 2)) == 2
    assert results.opponents(results.ranking("raw", "Raw", VALUES - VALUES.min()), 5) == []


def test_families_are_folded_with_their_count_and_true_ranks(found: results.Ranking) -> None:
    families = ["x", "y", "x", "x", "", "y"]
    assert [(e.rank, e.index, e.alike) for e in results.proponents(found, 9, families)] == [(1, 0, 1), (2, 4, 0)]
    assert [(e.rank, e.index, e.alike) for e in results.opponents(found, 9, families)] == [(1, 5, 1)]
    assert len(results.proponents(found, 1, families)) == 1


def test_shares_of_proponents_sum_to_one(found: results.Ranking) -> None:
    assert sum(e.share for e in results.proponents(found, 6)) == pytest.approx(1)
    none = results.ranking("raw", "Raw", -np.ones(3))
    assert results.share(none, 0) == 0
    assert results.credit(none, ["a", "b", "c"])[0].share == 0


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SettingsError, match="not finite"):
        results.ranking("d-trak", "D-TRAK", np.array([1.0, np.nan]))
    with pytest.raises(SettingsError, match="shape"):
        results.ranking("d-trak", "D-TRAK", np.ones((2, 2)))


def test_credit_equals_a_plain_loop(found: results.Ranking) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    names = [f"artist {i}" for i in rng.integers(0, 7, 200)]
    credits = results.credit(results.ranking("t", "T", values), names)
    total = sum(v for v in values if v > 0)
    for one in credits:
        own = [v for v, name in zip(values, names, strict=True) if name == one.contributor]
        assert one.count == len(own)
        assert one.supporting == sum(v > 0 for v in own)
        assert one.share == pytest.approx(sum(v for v in own if v > 0) / total)
        assert one.set_share == pytest.approx(len(own) / 200)
    assert [c.share for c in credits] == sorted((c.share for c in credits), reverse=True)
    assert sum(c.share for c in credits) == pytest.approx(1)
    by_name = {c.contributor: c for c in results.credit(found, [row["contributor"] for row in ROWS])}
    assert by_name["Ada"].share == pytest.approx(6 / 7)
    assert by_name[results.NOT_GIVEN].count == 1
    with pytest.raises(SettingsError, match="2 contributors"):
        results.credit(found, ["Ada", "Ben"])


def test_family_leaves_out_itself_and_the_unknown() -> None:
    assert results.family(ROWS, 0) == [2, 5]
    assert results.family(ROWS, 1) == []


def test_json_holds_both_ends_and_provenance(found: results.Ranking) -> None:
    held = json.loads(results.to_json({"id": "seed:3"}, [found], ROWS))
    assert held["target"] == {"id": "seed:3"}
    assert held["methods"]["d-trak"]["proponents"][0] == {
        "rank": 1,
        "index": 0,
        "score": 3.0,
        "share": 3 / 7,
        "name": "name 0",
        "contributor": "Ada",
        "label": "a",
    }
    assert held["methods"]["d-trak"]["damping"] == 0.5
    assert held["provenance"]["d-trak"]["checkpoint"] == "c1"


def test_csv_has_a_line_for_every_example(found: results.Ranking) -> None:
    lines = list(csv.DictReader(io.StringIO(results.to_csv({"id": "seed:3"}, [found], ROWS).decode())))
    assert [int(line["index"]) for line in lines] == found.order.tolist()
    assert [float(line["score"]) for line in lines] == [3.0, 3.0, 1.0, 0.0, -1.0, -5.0]
    assert {(line["target"], line["dataset"], line["checkpoint"]) for line in lines} == {("seed:3", "toy", "c1")}
    table = results.credit_csv(found, results.credit(found, [r["contributor"] for r in ROWS]), {"id": "seed:3"})
    first = next(csv.DictReader(io.StringIO(table.decode())))
    assert (first["contributor"], float(first["share_of_positive"])) == ("Ada", pytest.approx(6 / 7))


TERMS = "OpenMoji, CC BY-SA 4.0"


@pytest.fixture
def marked(found: results.Ranking) -> results.Ranking:
    """Return the ranking with index 4 and 5 unsure."""
    steady = np.array([True, True, True, True, False, False])
    return dataclasses.replace(found, repeatability=0.25, steady=steady)


def test_exports_carry_contributors_licence_marks_and_settings(found: results.Ranking, marked: results.Ranking) -> None:
    held = json.loads(results.to_json({"id": "seed:3"}, [marked], ROWS, TERMS))
    assert held["licence"] == TERMS
    method = held["methods"]["d-trak"]
    assert method["repeatability"] == 0.25
    told = [(e["index"], e["contributor"], e["in_both_halves"]) for e in method["proponents"]]
    assert told == [(0, "Ada", True), (4, "Ada", False), (3, "Ben", True)]
    lines = list(csv.DictReader(io.StringIO(results.to_csv({"id": "seed:3"}, [marked], ROWS, TERMS).decode())))
    assert [(int(e["index"]), e["in_both_halves"]) for e in lines[:3]] == [(0, "yes"), (4, "no"), (3, "yes")]
    assert {(e["licence"], e["repeatability"], e["effective_rank"]) for e in lines} == {(TERMS, "0.25", "2.25")}
    (plain, *_) = csv.DictReader(io.StringIO(results.to_csv({"id": "seed:3"}, [found], ROWS).decode()))
    assert (plain["in_both_halves"], plain["repeatability"]) == ("not measured", "")
    fixed = dataclasses.replace(found, random=False)
    (plain, *_) = csv.DictReader(io.StringIO(results.to_csv({"id": "seed:3"}, [fixed], ROWS).decode()))
    assert plain["in_both_halves"] == "nothing random in it"
    credits = results.credit(marked, [row["contributor"] for row in ROWS])
    (first, *_) = csv.DictReader(io.StringIO(results.credit_csv(marked, credits, {"id": "x"}, TERMS).decode()))
    assert (first["licence"], float(first["lift"])) == (TERMS, pytest.approx((6 / 7) / (2 / 6)))


def test_the_figure_names_contributors_and_fades_what_is_unsure(marked: results.Ranking, images: np.ndarray) -> None:
    facts = {"dataset": "toy"}
    data = figure.draw(images[2], "x", [marked], images, (3, 2), facts, rows=ROWS, terms=TERMS)
    sheet = Image.open(io.BytesIO(data))
    assert sheet.text["licence"] == TERMS
    assert json.loads(sheet.text["credits"]) == {"0": "Ada", "4": "Ada", "3": "Ben", "5": "Cy", "1": "Ben"}
    pixels = np.asarray(sheet.convert("RGB"))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    for index, faded in ((0, False), (3, False), (4, True), (5, True)):
        own = {tuple(colour) for colour in images[index].reshape(-1, 3).tolist()}
        assert (len(own & colours) < len(own) / 2) == faded, f"#{index}"
    plain = Image.open(io.BytesIO(figure.draw(images[2], "x", [marked], images, (3, 2), facts)))
    assert plain.height < sheet.height, "the licence line takes room"
    assert plain.text.keys() == {"provenance"}


def test_the_figure_writes_shares_as_the_page_does(
    found: results.Ranking, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    plainly = figure.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        figure.ImageDraw.ImageDraw,
        "text",
        lambda pen, at, words, *a, **k: written.append(words) or plainly(pen, at, words, *a, **k),
    )
    few = dataclasses.replace(found, positive_total=1000 * found.positive_total)
    figure.draw(images[2], "x", [few], images, (1, 1), {})
    shares = [crediting.percent(results.share(few, int(few.order[place]))) for place in (0, -1)]
    assert shares[0].startswith("0.0")
    for place, share in zip((0, -1), shares, strict=True):
        assert any(words.startswith(f"#{few.order[place]}   {share}") for words in written), written
    assert "%: share of this method's positive total." in written
    assert "Opponents: the least certain part of a ranking." in written


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def test_thumbnails_keep_every_pixel(images: np.ndarray) -> None:
    held = Image.open(io.BytesIO(base64.b64decode(thumbnails.address(images[0]).split(",")[1])))
    assert held.format == "PNG"
    assert np.array_equal(np.asarray(held), images[0])
    large = thumbnails.decode(thumbnails.png(images[0], 100))
    assert large.shape == (96, 96, 3)
    assert np.array_equal(large[::6, ::6], images[0])
    assert np.array_equal(large[5::6, 5::6], images[0])


def test_large_pictures_become_small_thumbnails() -> None:
    wide = np.zeros((300, 600, 3), dtype=np.uint8)
    held = Image.open(io.BytesIO(base64.b64decode(thumbnails.address(wide).split(",")[1])))
    assert held.size == (128, 64)


def test_figure_shows_the_right_pictures_in_aligned_columns(found: results.Ranking, images: np.ndarray) -> None:
    other = results.ranking("trak", "TRAK", np.array([1.0, 9.0, 0.0, 0.0, 8.0, 0.0]))
    data = figure.draw(images[2], "seed 3", [found, other], images, (3, 2), {"dataset": "toy"})
    sheet = Image.open(io.BytesIO(data))
    assert json.loads(sheet.text["provenance"]) == {"dataset": "toy"}
    pixels = np.asarray(sheet.convert("RGB"))
    places = {}
    for index in range(6):
        big = images[index].repeat(figure.CELL // 16, axis=0).repeat(figure.CELL // 16, axis=1)
        for row in range(0, pixels.shape[0] - figure.CELL):
            hits = np.flatnonzero((pixels[row, :, :] == big[0, 0]).all(axis=1))
            for column in hits:
                window = pixels[row : row + figure.CELL, column : column + figure.CELL]
                if window.shape == big.shape and np.array_equal(window, big):
                    places.setdefault(index, []).append((row, int(column)))
    rows = sorted({row for spots in places.values() for row, _ in spots})
    assert len(rows) == 2
    drawn = [
        [i for _, i in sorted((c, i) for i, spots in places.items() for r, c in spots if r == row)] for row in rows
    ]
    assert drawn == [[0, 4, 3, 5, 1], [1, 4, 0]]
    first = [sorted(c for spots in places.values() for r, c in spots if r == row)[:3] for row in rows]
    assert first[0] == first[1]


def test_the_figure_is_as_wide_as_what_is_there(found: results.Ranking, images: np.ndarray) -> None:
    def width(one: results.Ranking, counts: tuple[int, int]) -> int:
        return Image.open(io.BytesIO(figure.draw(images[2], "x", [one], images, counts, {}))).width

    positive, negative = int((found.values > 0).sum()), int((found.values < 0).sum())
    assert width(found, (100_000, 100_000)) == width(found, (positive, negative))
    none = results.ranking("trak", "TRAK", np.arange(1.0, 7))
    assert width(none, (6, 100_000)) == width(none, (6, figure.FEWEST)), "it says that no score is negative"
    images = np.tile(images, (9, 1, 1, 1))
    many = results.ranking("trak", "TRAK", np.arange(1.0, 55))
    assert width(many, (54, 0)) == width(many, (figure.MOST, 0))


def test_long_names_are_wrapped_and_never_cut() -> None:
    name = "Nadine-Charlotte von der Wellnitz-Erdogan und Donaudampfschifffahrtsgesellschaft"
    lines = figure.wrapped(name, 140, 14)
    assert len(lines) > 3
    assert all(figure.font(14).getlength(line) <= 140 for line in lines)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
