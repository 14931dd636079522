"""What README and docs name is there: commands with their options, files, names in the code, variables."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import tyro

from dtrak_core import api
from dtrak_core.commands import cli, make
from dtrak_core.datasets import catalogue
from dtrak_core.features.settings import ModelOutput

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted((PROJECT / "docs").glob("*.md"))
TEXTS = {str(path.relative_to(PROJECT)): path.read_text() for path in (PROJECT / "README.md", *PAGES)}
CODE = {path: path.read_text() for path in sorted((PROJECT / "dtrak_core").rglob("*.py"))}
SUFFIXES = ("csv", "html", "json", "jpg", "png", "txt", "zip")
VARIABLE = re.compile(r"\bSTUDIO_[A-Z_]+\b")
# What a sentence that is about other options leaves out.
UNSAID = {
    "train": ["--name", "NAME"],
    "import-checkpoint": ["--source", "SOURCE", "--name", "NAME"],
    "look": ["SOURCE"],
    "counterfactual": ["NAME"],  # of --show
    "benchmark export": ["--out", "FILE"],
    "scores add": ["FILE", "--name", "NAME"],
}


def spans_in(text: str) -> list[str]:
    """Return the code within sentences."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def lines_in(text: str) -> list[str]:
    """Return the lines of code that stand by themselves."""
    return re.findall(r"^    (.+)$", text.replace("\\\n", " "), re.M)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Return each different `dtrak` command of the documents: its name, and the words after that."""
    for line in dict.fromkeys(line for text in TEXTS.values() for line in [*lines_in(text), *spans_in(text)]):
        if found := re.fullmatch(r"(?:\S*/)?dtrak (.*)", line.replace(" ...", "").replace("PIXELS", "32")):
            words = shlex.split(found[1])
            two = words[0] in cli.GROUPS and (words[0] != "dataset" or words[1:2] == ["list"])
            yield " ".join(words[: 1 + two]), words[1 + two :]


def test_every_command_of_the_documents_is_one_that_the_command_line_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDIO_ENGINE", "")  # which --engine sets
    known = cli.COMMANDS | {f"{group} {name}": c for group, own in cli.GROUPS.items() for name, c in own.items()}
    taken = set()

    def takes(name: str, words: list[str]) -> bool:
        unrun = functools.wraps(known[name])(lambda *given, **values: None)
        try:
            tyro.cli(unrun, args=cli._engine_chosen(words), config=cli.CONFIG)
        except SystemExit:
            return False
        return True

    for name, words in commands():
        if name != "--help":
            assert takes(name, words) or takes(name, words + UNSAID.get(name, [])), (name, words, capsys.readouterr())
            taken.add(name.split()[0])
    assert set(cli.COMMANDS) - taken <= {"demo", "demo-schools"}, "which `make` calls; no page tells of it"


def test_help_names_every_dataset_and_model_output_that_can_be_chosen() -> None:
    for command, choices in (
        (make.dataset, catalogue.BUILT_IN),
        (
            make.attribute,
            set(get_args(ModelOutput)) - {"interpolated"},
        ),  # of a mixture, which needs a number of its own
    ):
        assert set(choices) <= set(re.findall(r"[\w-]+", str(command.__doc__)))


def test_every_page_says_first_whom_it_serves_and_the_readme_stays_short() -> None:
    without = {name for name, text in TEXTS.items() if not re.match(r"# .+\n\nFor someone ", text)}
    assert without == {"README.md"}
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_the_readme_shows_each_of_the_five_uses() -> None:
    uses = TEXTS["README.md"].split("## Five uses", 1)[1].split("\n## ", 1)[0]
    parts = re.split(r"^\*\*", uses, flags=re.M)[1:]
    shown = [re.findall(r"!\[(.+)\]\((docs/images/.+\.png)\)", part) for part in parts]
    assert [len(each) for each in shown] == [1] * 5
    assert all((PROJECT / file).is_file() and ": " in told for ((told, file),) in shown)
    assert {file for ((_, file),) in shown} | {"docs/images/overview.png"} == {
        f"docs/images/{path.name}" for path in (PROJECT / "docs" / "images").iterdir()
    }


def test_files_and_names_that_sentences_tell_of_exist() -> None:
    """Paths, or their ends; `module.name`; what `make` and `python` are called with."""
    made = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.M))
    lacking = set()
    for span, page in {span: page for page, text in TEXTS.items() for span in spans_in(text)}.items():
        named = re.sub(r"^(python|pytest) ", "", span).split()[0]
        if named == "make":
            there = set(span.split()[1:2]) <= made
        elif named.endswith(".py") or named.startswith(("benchmarks/", "dtrak_core/", "docs/", "pages/", "tests/")):
            there = (PROJECT / named).exists() or any(str(path).endswith(f"/{named}") for path in CODE)
        elif (of := re.match(r"(\w+)\.([A-Za-z_]+)", named)) and of[1] == "api":
            there = of[2] in api.__all__
        elif of and (texts := [text for path, text in CODE.items() if path.stem == of[1]]) and of[2] not in SUFFIXES:
            there = any(re.search(rf"^(def |class )?{of[2]}\b", text, re.M) for text in texts)
        else:
            there = True
        lacking |= set() if there else {f"{span} in {page}"}
    assert lacking == {"dtrak_core/app in docs/design.md"}, "which is in a wheel alone"


def test_the_variables_that_the_code_reads_are_the_documented_ones() -> None:
    read = {one for text in CODE.values() for one in VARIABLE.findall(text)}
    table = set(re.findall(r"^\| `(\w+)` \|", TEXTS["docs/security.md"], re.M))
    assert table == read - {"STUDIO_DEMO"}, "which is for the demo's own rebuild"
    assert {one for text in TEXTS.values() for one in VARIABLE.findall(text)} <= table
