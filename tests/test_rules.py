"""The project's own rules, read off its source: arrows between modules, sizes, what is never used."""

from __future__ import annotations

import ast
import functools
import graphlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CORE = PROJECT / "dtrak_core"
PAGES = sorted((PROJECT / "pages").glob("*.py"))
TEXTS = [
    *(
        p
        for folder in ("benchmarks", "docs", "dtrak_core", "pages", "tests")
        for p in sorted((PROJECT / folder).rglob("*.*"))
    ),
    *sorted(PROJECT.glob("*.*")),
]
TEXTS = [p for p in TEXTS if p.suffix in (".md", ".py")]
SOURCES = [p for p in sorted(CORE.rglob("*.py")) if "data" not in p.parts]

# From the bottom (docstrings say what is in each): a package imports only from those before its line, and from the
# files beside them all, which know none.
PACKAGES = [
    ["datasets"],
    ["models"],
    ["features", "training"],
    ["methods"],
    ["lds", "counterfactual"],
    ["jobs"],
    ["engine", "ui"],
    ["demo", "api"],
    ["commands"],
]
MODULES = {
    ".".join(p.relative_to(CORE).with_suffix("").parts): p for p in SOURCES if p.stem not in ("__init__", "__main__")
}
LIGHT = [
    "methods.results",
    "jobs.jobs",
    "datasets.catalogue",
    "models.checkpoints",
    "models.targets",
    "methods.scores",
    "training.presets",
    "commands.cli",
]


def in_project(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def rank_of(module: str) -> int:
    """Return how high a module stands: 0 beside the packages, then its package's line."""
    package = module.split(".")[0]
    return next((i for i, line in enumerate(PACKAGES, 1) if package in line), 0) if "." in module else 0


def package_of(module: str) -> str:
    return module.split(".")[0] if "." in module else "root"


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return all of a file's syntax, which several rules look at."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports_of(path: Path) -> set[str]:
    """Names of all modules that a file imports, inside functions too."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def core_modules(names: set[str]) -> set[str]:
    """Return the modules that names of modules, or of things in them, lead to."""
    found = {name.removeprefix("dtrak_core.") for name in names if name.startswith("dtrak_core.")}
    return {end for name in found for end in (name, name.rpartition(".")[0]) if end in MODULES}


def test_every_package_has_its_line_and_few_files_lie_beside_them() -> None:
    folders = {p.parent.relative_to(CORE).parts[0] for p in SOURCES if p.parent != CORE}
    assert folders == {name for line in PACKAGES for name in line}
    assert len(list(CORE.glob("*.py"))) <= 12, "find a package for it"


def test_a_module_imports_only_what_stands_below_it() -> None:
    wrong = {}
    for module, path in MODULES.items():
        package = module.split(".")[0] if "." in module else ""
        others = {m for m in core_modules(imports_of(path)) if not package or m.split(".")[0] != package}
        if above := {m for m in others if rank_of(m) > rank_of(module) or ("." in m and rank_of(m) == rank_of(module))}:
            wrong[module] = above
    assert wrong == {}, "each imports what does not stand below it"


def test_no_modules_import_each_other() -> None:
    graph = {module: core_modules(imports_of(path)) - {module} for module, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_picture_of_packages_is_true() -> None:
    """docs/design.md draws what imports what, without the arrows that follow from others."""
    graph: dict[str, set[str]] = {}
    files = [(package_of(module), path) for module, path in MODULES.items()]
    for package, path in [*files, *(("pages", page) for page in [*PAGES, PROJECT / "app.py"])]:
        used = {package_of(module) for module in core_modules(imports_of(path))}
        graph[package] = graph.get(package, set()) | used - {package}

    def below(package: str) -> set[str]:
        return graph[package].union(*(below(other) for other in graph[package]))

    wanted = {(a, b) for a in graph for b in graph[a] if not any(b in below(other) for other in graph[a])}
    picture = (PROJECT / "docs" / "design.md").read_text().split("```mermaid")[1].split("```")[0]
    assert set(re.findall(r"(\w+) --> (\w+)", picture)) == wanted


def test_documents_that_are_cited_exist() -> None:
    lacking = set()
    for path in TEXTS:
        cited = re.findall(r"[\w./-]*\w\.md\b", path.read_text().replace('" / "', "/"))
        lacking |= {
            f"{name} in {in_project(path)}"
            for name in cited
            if not any((place / name).exists() for place in (PROJECT, path.parent))
        }
    assert lacking == set(), "cite the paper, or what the repository holds"


def test_pages_share_only_what_lies_beside_their_folders() -> None:
    leaning = {}
    for module in (m for m in MODULES if m.startswith("ui.")):
        used = {m.rpartition(".")[0] for m in core_modules(imports_of(MODULES[module])) if m.startswith("ui.")}
        if other := used - {"ui", module.rpartition(".")[0]}:
            leaning[module] = other
    assert leaning == {}, "each leans on another page's pieces"


def test_only_the_ui_imports_streamlit() -> None:
    wrong = {
        f"{name} in {in_project(path)}"
        for path in SOURCES
        if "ui" not in path.relative_to(CORE).parts
        for name in imports_of(path)
        if name.split(".")[0] in ("streamlit", "plotly")
    }
    assert wrong == set()


def test_size_and_forbidden_words() -> None:
    words = ("pickle.", "allow_pickle=True", "unsafe_allow_html", "unsafe_allow_javascript", "TODO", "FIXME")
    wrong = set()
    for path in (*SOURCES, *PAGES, PROJECT / "app.py"):
        text = path.read_text()
        if len(text.splitlines()) > (120 if path in PAGES else 300):
            wrong.add(f"split {in_project(path)} by noun")
        wrong |= {f"{word} in {in_project(path)}" for word in words if word in text}
        loads = re.findall(r"torch\.load\([^)]*\)", text)
        wrong |= {f"{call} in {in_project(path)}" for call in loads if "weights_only=True" not in call}
    assert wrong == set()


def test_what_follows_the_work_is_called_on_progress() -> None:
    wrong = {
        f"{node.arg} in {in_project(path)}"
        for path in SOURCES
        for node in nodes_of(path)
        if isinstance(node, ast.arg) and node.annotation is not None
        if re.fullmatch(r"(\w+\.)?(Progress|Count)( \| None)?", ast.unparse(node.annotation))
        if node.arg not in ("on_progress", "on_projected")
    }
    assert wrong == set()


def test_docstrings_explain_the_arguments_that_there_are() -> None:
    """Those of a command that all commands have are explained where they are declared."""
    wrong = {}
    for path in SOURCES:
        for node in nodes_of(path):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if text and "Args:\n" in text and isinstance(node, ast.FunctionDef):
                told = re.findall(r"^    (\w+): ", re.split(r"\n\w+:\n", text.partition("Args:\n")[2])[0], re.M)
                own = node.args
                given = [*own.posonlyargs, *own.args, own.vararg, *own.kwonlyargs, own.kwarg]
                names = [
                    one.arg
                    for one in given
                    if one is not None and one.arg != "self" and not one.arg.startswith("_")
                    if one.annotation is None or not re.search(r"\b(Json|TrainOptions)\b", ast.unparse(one.annotation))
                ]
                if told != names:
                    wrong[f"{node.name} in {in_project(path)}"] = (told, names)
    assert wrong == {}


def defined_in(path: Path) -> set[str]:
    """Return the names that a file defines for others: functions, classes, constants."""
    names: set[str] = set()
    for node in getattr(nodes_of(path)[0], "body", []):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("__")}


def used_in(path: Path) -> set[str]:
    """Return what a file uses of the core's modules, its own among them: `package.module.name`."""
    own = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removeprefix("dtrak_core.")
    used, called = set(), {}
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dtrak_core"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}".removeprefix("dtrak_core.")
                used.add(name)
                called[alias.asname or alias.name] = name
    for node in nodes_of(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{called.get(node.value.id, '')}.{node.attr}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(f"{own}.{node.id}")
    return used


def test_nothing_is_defined_that_nobody_uses() -> None:
    """Tests and a module's list of what it gives on are no users."""
    users = [*SOURCES, *PAGES, PROJECT / "app.py", *sorted((PROJECT / "benchmarks").glob("*.py"))]
    used = set().union(*(used_in(path) for path in users))
    unused = {f"{module}.{name}" for module, path in MODULES.items() for name in defined_in(path)} - used
    assert unused == {
        "engine.tasks.LOADED",  # looked up in what a worker has loaded
        "methods.patches.compare",  # the whole at once, which tests compare with a slow sum
        "ui.benchmark.ahead.look",  # found by readying.py, which leans on no page
        "ui.counterfactual.ahead.look",
        "training.presets.PAPER_LDS",  # held against docs/reproduce.md
    }


def test_what_is_published_is_computed_under_a_lock() -> None:
    texts = {in_project(path): path.read_text() for path in SOURCES}
    wrong = [name for name, text in texts.items() if "store.publish(" in text and "store.computing(" not in text]
    assert wrong == [], "two jobs may compute it at the same time"


def test_every_streamlit_cache_is_bounded() -> None:
    wrong = set()
    for path in (*sorted((CORE / "ui").rglob("*.py")), *PAGES):
        for node in nodes_of(path):
            for text in map(ast.unparse, getattr(node, "decorator_list", [])):
                cached = "cache_data" in text or "cache_resource" in text
                if cached and "max_entries" not in text and "max_size" not in text:
                    wrong.add(f"{text} in {in_project(path)}")
    assert wrong == set(), "each can grow without bound"


def test_every_table_has_a_name_for_who_cannot_see_it_and_every_number_says_what_it_is() -> None:
    needed = {"dataframe": "alt", "metric": "help"}
    wrong = set()
    for path in (*sorted((CORE / "ui").rglob("*.py")), *PAGES):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                lacking = needed.get(node.func.attr)
                if lacking and lacking not in [one.arg for one in node.keywords]:
                    wrong.add(f"{lacking} of {ast.unparse(node.func)} in {in_project(path)}:{node.lineno}")
    assert wrong == set()


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by name alone, so of two of one name it collects neither."""
    found = Counter(path.name for path in (PROJECT / "tests").rglob("test_*.py"))
    assert [name for name, count in found.items() if count > 1] == []


def test_what_the_pages_import_leaves_torch_out() -> None:
    modules = [f"dtrak_core.{name}" for name in LIGHT]
    modules += [f"dtrak_core.{name}" for name in MODULES if name.startswith("ui.")]
    modules += sorted({n for p in [*PAGES, PROJECT / "app.py"] for n in imports_of(p) if n.startswith("dtrak_core")})
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if not str(error.name).startswith('dtrak_core'): raise\n"
        "print(json.dumps([m for m in ('torch', 'diffusers', 'open_clip', 'scipy', 'sklearn') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
