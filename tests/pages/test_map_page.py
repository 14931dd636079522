"""Map: computed by a button, coloured, searched; what is lassoed is looked at and leads on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from page_helpers import address, galleries, opened

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.jobs.question_jobs import MapJob
from dtrak_core.methods import crediting, map_sheet, maps, results
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import quiet
from dtrak_core.ui.map import colouring, map_chart

Small = tuple[Dataset, Checkpoint]


def links(at: Any) -> dict[str, str]:
    return {each.proto.label: each.proto.query_string for each in at.get("page_link")}


def test_a_map_is_asked_for_then_lassoed_looked_at_and_led_on(small: Small) -> None:
    dataset, checkpoint = small
    at = opened("map", by="D-TRAK's gradients", sample="seed:1")
    (button,) = [one for one in at.button if one.label == "Compute"]
    at.button(key=button.key).click().run()
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert isinstance(asked, MapJob)
    assert asked.settings == maps.settings_of("d-trak", dataset, checkpoint)
    maps.compute(asked.settings, quiet)
    at = opened("map", by="D-TRAK's gradients", sample="seed:1", find="red", example="4")
    assert [chart.proto.id.rpartition("-")[2] for chart in at.get("plotly_chart")] == ["score"]
    at.session_state["map-d-trak-score"] = {"selection": {"points": [{"customdata": [i]} for i in (9, 3, 4)]}}
    at.run()
    assert address(at)["take"] == "3-4,9"
    (part,) = galleries(at)["chosen"]["rows"][0]["parts"]
    assert [item["key"] for item in part["items"]] == ["3", "4", "9"]
    told = " ".join(one.value for one in at.markdown)
    count = len(dataset.train.rows)
    assert f"**3 pictures chosen**, {crediting.percent(3 / count)} of {count}" in told
    assert "positive score for seed 1" in told
    (removal,) = [query for label, query in links(at).items() if label.startswith("What if")]
    assert "pictures=3-4%2C9" in removal
    assert "sample=seed%3A1" in removal
    (doctor,) = [query for label, query in links(at).items() if label.startswith("Is the model")]
    assert "take=3-4%2C9" in doctor
    red = [i for i, row in enumerate(dataset.train.rows) if row["label"] == "red"]
    at.button(key=next(b.key for b in at.button if b.label == f"Choose {len(red)} hits of {count}")).click().run()
    assert len(galleries(at)["chosen"]["rows"][0]["parts"][0]["items"]) == min(len(red), 24)


def test_colours_and_rings_belong_to_pictures(small: Small) -> None:
    dataset, _ = small
    count = len(dataset.train.rows)
    rows = np.arange(0, count, 2)
    xy = np.random.default_rng(0).random((len(rows), 2), np.float32)
    found = maps.Map(maps.settings_of("pixels", dataset, None), xy, rows, 0.9, 0.5, len(rows), 10, 11.0)
    drawn, alt, _ = colouring.figure(found, dataset, "contributor", None)
    assert "Ada" in alt
    for trace in drawn.data:
        for index, x in zip(trace.customdata, trace.x, strict=True):
            assert dataset.train.rows[index]["contributor"] == trace.name
            assert x == xy[index // 2, 0]
    assert sum(len(trace.x) for trace in drawn.data) == len(rows)
    values = np.linspace(-1, 3, count)
    scored = map_chart.by_scores(found, values, [str(i) for i in range(count)])
    np.testing.assert_array_equal(scored.data[0].marker.color, values[list(scored.data[0].customdata)])
    assert scored.layout.coloraxis.cmin == -scored.layout.coloraxis.cmax, "0 is the middle"
    ranking = results.ranking("d-trak", "D-TRAK", values)
    first = [entry.index for entry in results.proponents(ranking, 4)]
    ring = map_chart.ringed(scored, found, [map_chart.Ring("proponents", "first", first)]).data[-1]
    assert list(ring.x) == [xy[i // 2, 0] for i in first if i % 2 == 0]


@pytest.mark.parametrize("words", ["RED disc", "disc 4", "ada"])
def test_all_words_of_a_search_are_found(small: Small, words: str) -> None:
    found = colouring.hits(small[0], words)
    assert found
    for row in (small[0].train.rows[i] for i in found):
        text = " ".join(str(value) for value in row.values()).casefold()
        assert all(part in text for part in words.casefold().split())
    assert colouring.hits(small[0], "nobody") == colouring.hits(small[0], " ") == []


def test_the_eight_largest_names_have_colours(small: Small) -> None:
    names, colours = map_sheet.coloured(small[0], "contributor")
    assert next(iter(colours)) == "Ada", "the largest first"
    assert set(names) == set(colours) == {"Ada", "Ben", "Cy"}
