"""The project's own rules, read off its source: arrows between modules, sizes, what is never used."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
CORE = PROJECT / "dtrak_core"
PAGES = sorted((PROJECT / "pages").glob("*.py"))
SOURCES = [p for p in sorted(CORE.rglob("*.py")) if "data" not in p.parts]

# A module imports only from its own layer's left (design.md, section 3). One line a layer.
LAYERS = [
    ["errors", "progress", "duplicates", "program", "spreadsheet"],
    ["settings", "processes", "files", "devices", "model_files"],
    ["train_settings", "removal_settings", "score_settings", "weights", "schedules", "pipelines"],
    ["artifacts"],
    ["store", "text_pipelines"],
    ["splits", "thumbnails", "presets", "subsets", "formats"],
    ["images", "source_files", "layout"],
    ["captions", "arrays", "array_labels"],
    ["archives", "picture_tables"],
    ["openmoji", "pictures", "cifar", "celeba", "artbench"],
    ["sources"],
    ["dataset_files"],
    ["datasets", "checkpoints", "bases"],
    ["latents", "text_side"],
    ["denoiser"],
    ["base_parts", "lora_files"],
    ["lora"],
    ["ensembles", "targets", "draws", "model_outputs", "feature_store", "methods", "models"],
    ["sketch"],
    ["kernel", "projection", "sampling", "gradients", "embeddings", "fader_layout", "losses", "patches"],
    ["faders", "projected", "mixtures"],
    ["training_state"],
    ["training_step"],
    ["training", "importing", "base_training", "features", "ekfac", "gradient_scores", "scores", "defaults"],
    ["figure", "results", "metrics", "lds", "paper", "importing_text"],
    ["agreement", "datamodels", "crossed"],
    ["fader_scores"],
    ["turned"],
    ["certainty", "crediting", "encoders"],
    ["removals", "lds_runs", "recipes"],
    ["predictions"],
    ["standings"],
    ["entries"],
    ["verdicts"],
    ["comparisons"],
    ["comparison_figure"],
    ["job_kinds", "counterfactual"],
    ["asking"],
    ["lds_losses", "benchmarking"],
    ["job_files", "engine", "job_index", "jobs", "parts"],
    ["work", "demo"],
    ["demo_lora"],
    ["serving", "children", "tasks", "cluster"],
    [
        "dispatcher",
        "answers",
        "estimates",
        "job_costs",
        "speeds",
        "costs",
        "tables",
        "housekeeping",
        "eviction",
        "commands",
        "removing",
        "measuring",
        "upkeep",
        "cli",
    ],
    ["__main__"],
]
LIGHT = ["results", "jobs", "datasets", "checkpoints", "targets", "scores", "presets", "cli"]


def layer_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if module in layer)


def imports_of(path: Path) -> set[str]:
    """Names of all modules that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def core_modules(names: set[str]) -> set[str]:
    parts = (name.split(".") for name in names if name.startswith("dtrak_core."))
    return {part[1] for part in parts if part[1] == "ui" or (CORE / f"{part[1]}.py").exists()}


def test_every_core_module_has_a_layer() -> None:
    modules = {p.stem for p in CORE.glob("*.py")} - {"__init__"}
    assert modules == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda p: p.stem)
def test_a_module_imports_only_what_stands_to_its_left(path: Path) -> None:
    if path.stem == "__init__":
        return
    mine = layer_of(path.stem)
    wrong = {m for m in core_modules(imports_of(path)) - {path.stem} if m == "ui" or layer_of(m) > mine}
    assert not wrong, f"{path.stem} imports {wrong}, which stand to its right"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_only_the_ui_imports_streamlit(path: Path) -> None:
    if "ui" not in path.relative_to(CORE).parts:
        assert not {n for n in imports_of(path) if n.split(".")[0] in ("streamlit", "plotly")}


@pytest.mark.parametrize("path", [*SOURCES, *PAGES, PROJECT / "app.py"], ids=lambda p: p.stem)
def test_size_and_forbidden_words(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= (120 if path in PAGES else 300), "split it by noun"
    for word in ("pickle.", "allow_pickle=True", "unsafe_allow_html", "unsafe_allow_javascript", "TODO", "FIXME"):
        assert word not in text
    for call in re.findall(r"torch\.load\([^)]*\)", text):
        assert "weights_only=True" in call


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_what_is_published_is_computed_under_a_lock(path: Path) -> None:
    text = path.read_text()
    assert "store.publish(" not in text or "store.computing(" in text, "two jobs may compute it at the same time"


@pytest.mark.parametrize("path", [*sorted((CORE / "ui").glob("*.py")), *PAGES], ids=lambda p: p.stem)
def test_every_streamlit_cache_is_bounded(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        for decorator in getattr(node, "decorator_list", []):
            text = ast.unparse(decorator)
            if "cache_data" in text or "cache_resource" in text:
                assert "max_entries" in text or "max_size" in text, f"{text} can grow without bound"


def test_what_the_pages_import_leaves_torch_out() -> None:
    modules = [f"dtrak_core.{name}" for name in LIGHT]
    modules += [f"dtrak_core.ui.{p.stem}" for p in sorted((CORE / "ui").glob("*.py")) if p.stem != "__init__"]
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
