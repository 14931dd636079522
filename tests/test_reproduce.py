"""The commands that docs/reproduce.md prints: the command line takes each, with the settings of the dry run."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtrak_core.commands import cli
from dtrak_core.datasets import catalogue
from dtrak_core.training import presets

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "reproduce.md").read_text()
PROGRAM = "dtrak "


def printed() -> list[str]:
    """Return the commands of the document, one line each, without the program."""
    joined = TEXT.replace("\\\n", " ")
    lines = re.findall(rf"^    {PROGRAM}(.*)$", joined, re.M) + re.findall(rf"`{PROGRAM}([^`]*)`", joined)
    return [re.sub(r" \.\.\.", "", line) for line in lines]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return what commands are called with from now on, in place of being run."""
    found: list[tuple[str, dict[str, Any]]] = []

    def recorded(name: str, command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def record(*given: object, **values: object) -> None:
            assert not given or name == "base"
            found.append((name, values))

        return record

    known = {name: recorded(name, command) for name, command in cli.COMMANDS.items()}
    monkeypatch.setattr(cli, "COMMANDS", known)
    return found


def test_every_command_is_one_that_the_command_line_takes(taken: list[tuple[str, dict[str, Any]]]) -> None:
    lines = printed()
    assert len(lines) >= 12
    for line in lines:
        assert cli.main(shlex.split(line)) == 0, line
    assert len(taken) == len(lines)
    assert {values["name"] for name, values in taken if name == "dataset"} == set(presets.USUAL) & {
        kind for kind in catalogue.BUILT_IN if not kind.startswith(("openmoji", "emoji"))
    }
    trained = {(values["dataset"], values["preset"]) for name, values in taken if name == "train"}
    assert trained <= set(presets.USUAL.items())


def test_settings_are_those_of_the_dry_run(taken: list[tuple[str, dict[str, Any]]]) -> None:
    for line in printed():
        cli.main(shlex.split(line))
    (attribute,) = [vars(values["features"]) for name, values in taken if name == "attribute"]
    assert {name: attribute[name] for name in presets.PAPER_FEATURES} == presets.PAPER_FEATURES
    (lds,) = [values for name, values in taken if name == "lds"]
    assert {name: lds[name] for name in presets.PAPER_LDS} == presets.PAPER_LDS
    told = f"K = {presets.PAPER_FEATURES['num_timesteps']} timesteps, {presets.PAPER_FEATURES['proj_dim']:,} "
    assert told in TEXT, "in words too"
