"""Adding pictures: a first look, which columns tell what, size and name, what it costs, the job."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted, duration, size
from dtrak_core.datasets import catalogue, preview
from dtrak_core.datasets.preview import Preview, Tables
from dtrak_core.datasets.settings import Columns, DatasetSettings, Fact
from dtrak_core.jobs import incoming
from dtrak_core.jobs.jobs import DatasetJob, JobState
from dtrak_core.settings import build
from dtrak_core.ui import bringing, crisp, frame, left_out, panels

WHAT = "pictures"
ASKED: dict[Fact, tuple[str, str]] = {  # facts that columns are chosen for: title, and what is told without a column
    "label": ("Label", "the folder's name"),
    "contributor": ("Contributor", "none"),
    "caption": ("Caption", "a text beside the picture"),
}
SIZE, EDGE = 32, 72  # pixels a side where nobody says, as in `dtrak dataset`; CSS pixels of a thumbnail
SOURCES = bringing.Asked(
    WHAT,
    "Where are they?",
    {"files": "Files or a zip", "folder": "A folder", "path": "A path on this machine"},
    {
        "files": "A zip, an .npz, or pictures with the table or texts that belong to them",
        "folder": "A folder of pictures",
        "path": "Folder, zip or .npz on this machine",
    },
    incoming.PICTURES,
    several=True,
)
_LOOKED, _TABLES, _ADDED = "_pictures-looked", "_pictures-tables", "_pictures-added"


def form() -> None:
    """Draw what comes next: choosing a source, or what it is and what becomes of it."""
    st.write(
        "Pictures of your own become a dataset: a model learns from them, and what it draws is explained by them. They "
        "stay on the machine that the app runs on."
    )
    if bringing.under_way(WHAT, _choose):
        return
    source = bringing.source(WHAT)
    if not source:
        _added()
        bringing.choose(SOURCES)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{panels.plain(Path(source).name)}**")
        st.button("Choose others", icon=":material/undo:", on_click=bringing.forget, args=(WHAT,))
    _chosen(Path(source))


def _chosen(source: Path) -> None:
    tables = _tables(source)
    side, columns = int(st.session_state.get("pictures-size", SIZE)), _columns(tables)
    place = st.container()
    _ask_columns(tables)
    with st.spinner("Looking at the pictures"):
        seen = _looked(source, side, columns)
    with place:
        _show(seen, side)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Size in pixels", 8, 512, side, key="pictures-size", width=160,
            help="Side of the squares that a model learns from. A small model on a laptop wants 16 to 32.",
        )  # fmt: skip
        name = st.text_input(
            "Name", _name(source), max_chars=40, key=f"pictures-name-{bringing.number(WHAT)}", width=220
        )
    about = [f"Preparing takes {size(seen.disk(side))} in the cache"]
    if seen.opened:
        about.append(f"about {duration(seen.seconds * seen.count)} of reading, as measured just now")
    st.caption(", ".join(about) + ".")
    if problem := _problem(name):
        st.error(problem)
    st.button(
        "Prepare", icon=":material/download_done:", disabled=bool(problem), on_click=_prepare,
        args=(seen, source, side, name, columns),
    )  # fmt: skip


def _show(seen: Preview, side: int) -> None:
    """Say what the pictures are, and draw some of them as they will be learned from."""
    held = f"{seen.held_out:,} of them to test" if seen.held_out else "one in ten will be held out"
    labels = ", ".join(f"{panels.plain(name)} ({count:,})" for name, count in list(seen.labels.items())[:8])
    more = f" and {len(seen.labels) - 8:,} more" if len(seen.labels) > 8 else ""
    st.markdown(
        f"**{counted(seen.count, 'picture')}**, {held}. Labels: {labels or 'none'}{more}. Captions: "
        f"{f'{seen.captions:,}' if seen.captions else 'none'}. Contributors: "
        f"{f'{seen.contributors:,}' if seen.contributors else 'none'}."
    )
    if seen.shown.rows:
        with st.container(horizontal=True, gap="xsmall"):
            for i, (image, row) in enumerate(zip(seen.shown.images, seen.shown.rows, strict=True)):
                alt = f"Picture {i + 1}: {preview.called(row)}"
                crisp.show(image, EDGE, alt)
    if seen.sizes:
        between = " to ".join(f"{width} × {height}" for width, height in seen.sizes)
        st.caption(
            f"{len(seen.shown.rows)} of them at {side} × {side} pixels, cropped to a square as in the paper; the files "
            f"have {between} pixels."
        )
    if seen.opened < seen.count:
        st.caption(f"{seen.opened:,} were opened so far; the rest will be when the dataset is prepared.")
    left_out.show(seen.notes, seen.left_out)


def _ask_columns(tables: Tables) -> None:
    """Draw the choice of columns, as the reader takes them by itself."""
    if not tables.offered:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for fact, (title, without) in _asked(tables).items():
            options = [*tables.offered, *([without] if without else [])]
            first = options.index(_first(tables, fact, without))
            st.selectbox(title, options, first, key=f"pictures-column-{fact}", width=200)


def _columns(tables: Tables) -> Columns:
    """Return the columns that are chosen otherwise than the reader takes them."""
    found: list[tuple[Fact, str]] = []
    for fact, (_, without) in _asked(tables).items() if tables.offered else ():
        chosen = str(st.session_state.get(f"pictures-column-{fact}", _first(tables, fact, without)))
        if chosen != tables.usual.get(fact, without):
            found.append((fact, "" if chosen == without else chosen))
    return tuple(found)


def _asked(tables: Tables) -> dict[Fact, tuple[str, str]]:
    """Return the facts that columns are chosen for, with their titles and what is told without a column."""
    return {"file_name": ("Name of the file", ""), **ASKED} if tables.names else ASKED


def _first(tables: Tables, fact: Fact, without: str) -> str:
    return tables.usual.get(fact, without or tables.names)


def _tables(source: Path) -> Tables:
    """Return what a source's tables offer; looked up once for each source."""
    known = st.session_state.get(_TABLES)
    if known is None or known[0] != bringing.number(WHAT):
        known = st.session_state[_TABLES] = (bringing.number(WHAT), preview.tables(source))
    found: Tables = known[1]
    return found


def _looked(source: Path, side: int, columns: Columns) -> Preview:
    """Look at a source once for each way of asking."""
    asked = (bringing.number(WHAT), side, columns)
    known = st.session_state.get(_LOOKED)
    if known is None or known[0] != asked:
        known = st.session_state[_LOOKED] = (asked, preview.look(source, side, columns))
    found: Preview = known[1]
    return found


def _name(source: Path) -> str:
    """Return a name that is free, after that of the source."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", source.stem.lower()).strip("._-")[:36] or "mine"
    known = {*catalogue.names(), *catalogue.BUILT_IN}
    return next(name for name in (plain, *(f"{plain}-{i}" for i in range(2, len(known) + 3))) if name not in known)


def _problem(name: str) -> str:
    return panels.name_problem(name, "dataset", (*catalogue.names(), *catalogue.BUILT_IN), "my-pictures")


def _prepare(seen: Preview, source: Path, side: int, name: str, columns: Columns) -> None:
    with panels.noted("prepare pictures"):
        told = {"kind": seen.kind, "name": name, "resolution": side, "source_digest": seen.digest}
        settings = build(DatasetSettings, **told, on_broken="skip", columns=columns)
        job = DatasetJob(dataset=settings, source=str(source))
        bringing.begin(WHAT, job, f"Prepare '{name}'")


def _choose(state: JobState) -> None:
    """Choose the dataset that was prepared."""
    stored = store.get(*state.artifacts[0])
    name = str(catalogue.make_newest(stored).manifest["name"])
    st.session_state[_ADDED] = name
    frame.choose_next(dataset=name)


def _added() -> None:
    """Say what was added last, and what can be done with it."""
    name = st.session_state.get(_ADDED)
    if name and name in catalogue.names():
        st.success(f"'{panels.plain(name)}' is prepared and chosen in the sidebar.", icon=":material/check:")
        with st.container(horizontal=True):
            frame.link(frame.OVERVIEW, "See the pictures", ":material/grid_view:")
            frame.link(frame.GENERATE, "Train a model on them", ":material/model_training:", tab="Train a model")
            frame.link(frame.ADD_MODEL, "Add a model that learned from them", ":material/add:")
