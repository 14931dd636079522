"""What the command line was told of drawing, and what it was not."""

from __future__ import annotations

import pytest

from dtrak_core.commands import cli, drawing


def test_what_was_not_said_is_known() -> None:
    usual, told = drawing.said(), drawing.said(sampling_steps=50, guidance=7.5)
    assert usual == told
    assert not {"sampling_steps", "guidance"} & usual.model_fields_set
    assert {"sampling_steps", "guidance"} <= told.model_fields_set


def test_a_value_that_cannot_be_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", "--sampling-steps", "0"]) == 1
    assert capsys.readouterr().err == ("Setting 'sampling_steps' is 0: input should be greater than or equal to 1.\n")
