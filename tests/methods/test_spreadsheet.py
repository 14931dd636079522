"""CSV as a spreadsheet opens it: names stay text, numbers stay numbers, and nothing is lost."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from dtrak_core.methods import results, spreadsheet

FORMULAS = [
    "=1+1", "=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1",
    "＝1+1", "＋1", "－1", "＠x", "=", "-", "+A1", "-A", "\x00=1",
]  # fmt: skip
TEXTS = ["", "Ada", "Anne-Marie", "a=b", "'quoted", "x@y.org", "Ünal, Can", 'say "hi"', "two\nlines"]


def opened(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_what_would_run_becomes_text(text: str) -> None:
    (_, (held,)) = opened(spreadsheet.to_csv(["name"], [[text]]))
    assert held == f"'{text}".replace("\r", "\n")


@pytest.mark.parametrize("text", TEXTS)
def test_other_text_stays_as_it_is(text: str) -> None:
    (_, (held, _)) = opened(spreadsheet.to_csv(["name", "n"], [[text, 1]]))
    assert held == text


@pytest.mark.parametrize("number", [-0.5, 3, -7, 1e-300, 0.1 + 0.2, "-0.5", "+3", "-1e-7"])
def test_numbers_stay_numbers(number: float | str) -> None:
    (_, (held,)) = opened(spreadsheet.to_csv(["value"], [[number]]))
    assert float(held) == float(number)
    assert not held.startswith("'")


def test_columns_and_empty_cells() -> None:
    assert spreadsheet.to_csv(["a", "=b"], [[None, True]]) == b"a,'=b\n,True\n"


def test_every_export_defuses_a_contributor() -> None:
    rows = [{"name": "@home", "label": "+1 more", "contributor": "=HYPERLINK(1)"}] * 2
    found = results.ranking("t", "T", np.array([1.0, -1.0]))
    credits = results.credit(found, [row["contributor"] for row in rows])
    scores = opened(results.to_csv({"id": "-x"}, [found], rows))
    assert {"'@home", "'+1 more", "'=HYPERLINK(1)", "'-x"} <= set(scores[1])
    assert [line[3] for line in scores[1:]] == ["1.0", "-1.0"]
    assert opened(results.credit_csv(found, credits, {"id": "x"}))[1][0] == "'=HYPERLINK(1)"
