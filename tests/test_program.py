"""The command that is printed is one that runs: it names the Python that has the packages."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dtrak_core import program
from dtrak_core.datasets import catalogue


def test_a_python_inside_the_project_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program._PROJECT / ".venv" / "bin" / "python"))
    assert program.command("jobs list") == ".venv/bin/python -m dtrak_core jobs list"


def test_the_python_on_the_path_needs_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert program.command() == "python -m dtrak_core"
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(program.command())[0] == str(tmp_path / "bin" / "python")


def test_the_printed_command_runs_outside_the_environment() -> None:
    told = program.command("cache list --help")
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(["/bin/sh", "-c", told], cwd=program._PROJECT, env=clean, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_messages_name_it() -> None:
    assert program.command("dataset") == catalogue.PREPARE
