"""What is imported is declared, each package with the oldest version that will do (`make test-oldest` runs them)."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
OURS = {"dtrak_core"} | {path.stem for part in ("tests", "benchmarks") for path in (PROJECT / part).rglob("*.py")}


def declared(*files: str) -> dict[str, str]:
    """Return what requirements files ask for, by normalised name: each version with what stands before it."""
    lines = [line.split("#")[0].strip() for name in files for line in (PROJECT / name).read_text().splitlines()]
    found = [re.match(r"([\w.-]+)(.*)", line) for line in lines]
    return {normal(one[1]): one[2] for one in found if one is not None}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*patterns: str) -> dict[str, str]:
    """Return the packages that files import, inside functions too, each with a file that does."""
    found: dict[str, str] = {}
    for path in sorted(path for pattern in patterns for path in PROJECT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                names = [ast.literal_eval(node.args[0])]
            found |= {name.split(".")[0]: str(path.relative_to(PROJECT)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OURS}


APP = ("app.py", "pages/**/*.py", "dtrak_core/**/*.py")
TESTS = ("tests/**/*.py", "benchmarks/**/*.py")


@pytest.mark.parametrize(
    ("patterns", "files"),
    [(APP, ["requirements.txt"]), (TESTS, ["requirements.txt", "tests/requirements.txt"])],
    ids=["app", "tests"],
)
def test_every_package_that_is_imported_is_declared(patterns: tuple[str, ...], files: list[str]) -> None:
    brought = importlib.metadata.packages_distributions()
    asked, used = declared(*files), imported(*patterns)
    assert {"numpy", "torch"} <= used.keys()
    missing = {
        f"{path} imports {name}, which {' and '.join(files)} do not declare"
        for name, path in used.items()
        if not asked.keys() & {normal(one) for one in brought.get(name, [name])}
    }
    assert missing == set()


def test_every_declared_package_has_a_lower_bound() -> None:
    asked = declared("requirements.txt", "tests/requirements.txt")
    assert len(asked) > 25
    assert [name for name, versions in asked.items() if not re.match(r"(>=|==)\d", versions)] == []


def test_what_is_installed_lies_within_the_declared_versions() -> None:
    """So that whoever runs the tests runs what is declared."""
    for name, versions in declared("requirements.txt", "tests/requirements.txt").items():
        here = parts(importlib.metadata.version(name))
        for sign, version in re.findall(r"(>=|==|<)([\d.]+)", versions):
            there = parts(version)
            length = max(len(here), len(there))
            left, right = here + (0,) * (length - len(here)), there + (0,) * (length - len(there))
            assert {">=": left >= right, "==": left == right, "<": left < right}[sign], f"{name} {here} {versions}"


def parts(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what a build adds."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version)[0]))
