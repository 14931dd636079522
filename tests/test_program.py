"""The command that is printed is one that runs: `dtrak` where that is this code, else the Python with the packages."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dtrak_core import program
from dtrak_core.datasets import catalogue


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test the programs of an environment that it runs in, outside the shell's path; `dtrak` is another's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python", "dtrak"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(program, "CHECKOUT", True)
    _installed(monkeypatch, {"url": "https://index.example/dtrak_studio.whl"})
    return programs


def _installed(patch: pytest.MonkeyPatch, facts: dict[str, object] | None) -> None:
    """Let the environment have installed the program so, or from an index (None)."""

    class Found:
        def read_text(self, _name: str) -> str | None:
            return facts and json.dumps(facts)

    patch.setattr(importlib.metadata, "distribution", lambda _name: Found())


def test_a_python_inside_the_project_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program.PROJECT / ".venv-none" / "bin" / "python"))
    assert program.command("jobs list") == ".venv-none/bin/python -m dtrak_core jobs list"


def test_the_python_on_the_path_needs_no_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert program.command() == "python -m dtrak_core"
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(program.command())[0] == str(environment / "python")


@pytest.mark.parametrize(
    "facts",
    [
        None,
        {"url": "file:///elsewhere", "dir_info": {"editable": True}},
        {"url": program.PROJECT.as_uri(), "dir_info": {}},
    ],
    ids=["index", "another-checkout", "copied"],
)
def test_dtrak_of_other_code_is_not_named(
    facts: dict[str, object] | None, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(monkeypatch, facts)
    assert program.command("jobs list") == f"{environment}/python -m dtrak_core jobs list"


def test_dtrak_installed_for_this_checkout_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, {"url": program.PROJECT.as_uri(), "dir_info": {"editable": True}})
    assert program.command("jobs list") == f"{environment}/dtrak jobs list"
    monkeypatch.setenv("PATH", str(environment))
    assert program.command("jobs list") == "dtrak jobs list"


def test_dtrak_that_another_environment_puts_on_the_path_is_not_meant(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = environment.parent / "other"
    other.mkdir()
    (other / "dtrak").write_text("#!/bin/sh\n")
    (other / "dtrak").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:{environment}")
    monkeypatch.setattr(program, "CHECKOUT", False)
    assert program.command() == f"{environment}/dtrak"
    monkeypatch.setenv("HOME", str(environment.parent))
    assert program.command() == "~/bin/dtrak"


def test_the_printed_command_runs_outside_the_environment() -> None:
    told = program.command("cache list --help")
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(["/bin/sh", "-c", told], cwd=program.PROJECT, env=clean, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_messages_name_it() -> None:
    assert program.command("dataset") == catalogue.PREPARE
