"""What every page stands in: navigation, the sidebar's dataset and checkpoint, and links that reopen a view.

The sidebar's links to the pages carry the whole view (address.py), and the comparison that Counterfactual would open,
so that a page is reached in one step, which Back undoes. The opened example is an address parameter of its page alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import RerunException

from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.models import checkpoints, descriptions, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.ui import about, address, lacking, named, navigation, panels, preparing, readying, tuning

OVERVIEW, GENERATE, ATTRIBUTION = "pages/overview.py", "pages/generate.py", "pages/attribution.py"
CREDIT, COPIES, DOCTOR, MAP = "pages/credit.py", "pages/copies.py", "pages/doctor.py", "pages/map.py"
COUNTERFACTUAL = "pages/counterfactual.py"
BENCHMARK, JOBS = "pages/benchmark.py", "pages/jobs.py"
FILES = (OVERVIEW, GENERATE, ATTRIBUTION, CREDIT, COPIES, DOCTOR, MAP, COUNTERFACTUAL, BENCHMARK, JOBS)
ADD_PICTURES, ADD_MODEL = "pages/add_pictures.py", "pages/add_model.py"  # beside the choices that they add to
_IN_FRAME, _SELECTION, _CHECKPOINTS, _OPENS, _NEXT = "_in_frame", "_selection", "_checkpoints", "_opens", "_next"


@dataclass(frozen=True)
class Selection:
    """What the sidebar says: a dataset, and a checkpoint trained on it if there is one."""

    dataset: Dataset
    checkpoint: Checkpoint | None

    @cached_property
    def drawn(self) -> list[Target]:
        """Return all pictures that the checkpoint drew: listed once a run, by whichever part of a page asks first."""
        return targets.drawn(self.checkpoint.digest) if self.checkpoint else []


# A link that is longer than a phone is wide is written in several lines; Streamlit would cut it.
_WHOLE_LINKS = "<style>[data-testid='stMain'] [data-testid='stPageLink-NavLink'] span { white-space: normal }</style>"


def configure() -> None:
    """Set title, width and the tab's icon: a plain emoji, since a page's own icon would be asked from a font host."""
    st.set_page_config(page_title="D-TRAK Studio", page_icon="🔎", layout="wide")


def pages() -> list[st.Page]:
    """Return the pages, the first one being the start."""
    found = []
    for file in (*FILES, ADD_PICTURES, ADD_MODEL):
        about = navigation.ABOUT[Path(file).stem]
        found.append(st.Page(file, title=about.title, icon=about.icon, default=file == OVERVIEW, help=about.help))
    return found


@contextlib.contextmanager
def inside(page: str) -> Iterator[None]:
    """Mark that app.py runs, so that a page knows it has its frame; at the page's end write the address.

    The links to the pages are drawn with the last run's view, and again where this run changed it.

    Args:
        page: The page's address path, empty for the start.
    """
    page = page or Path(OVERVIEW).stem
    st.session_state[_IN_FRAME] = True
    st.html(_WHOLE_LINKS)
    place, before = st.sidebar.empty(), _leading()
    _links(place, before)
    overtaken = False
    try:
        yield
    except RerunException:  # by Back, perhaps: the address is of the next run, which writes it
        overtaken = True
        raise
    finally:
        st.session_state.pop(_IN_FRAME, None)
        if not overtaken:
            address.write()
            address.leave(page)
            if _leading() != before:
                _links(place, _leading())
        with st.sidebar:  # at its end, where it takes no room
            about.beside()


def _leading() -> dict[str, Mapping[str, str | list[str]]]:
    """Return by page what its link carries: the view, the page's own parameters, and what it will open."""
    opens = st.session_state.get(_OPENS, {})
    return {page: opens.get(page, {}) | address.leading(page) for page in (*FILES, ADD_PICTURES, ADD_MODEL)}


def _links(place: DeltaGenerator, leading: Mapping[str, Mapping[str, str | list[str]]]) -> None:
    with place.container(gap="xxsmall"):
        for file, page in zip(FILES, pages(), strict=False):
            st.page_link(page, query_params=leading[file], width="stretch")


def _opens(selection: Selection, checkpoint: Checkpoint) -> dict[str, dict[str, str]]:
    """Return by page the target or the comparison that it opens where the view names none, as parameters.

    Its link names it, for a page that writes it into the address only then makes one more step that Back undoes. Where
    a comparison is under way, that is shown, and none is named.
    """
    found: dict[str, dict[str, str]] = {}
    if not address.get("sample"):
        drawn = targets.samples(checkpoint.digest, named.sampled(checkpoint), selection.drawn)
        found = {page: {"sample": named.usual([target.id for target in drawn])} for page in (OVERVIEW, ATTRIBUTION)}
    if not address.get("comparison") and (key := comparisons.first(selection.dataset, checkpoint.digest)):
        if not panels.newest("counterfactual", checkpoint.digest):
            found[COUNTERFACTUAL] = {"comparison": key}
    return found


def framed() -> Selection | None:
    """Return the selection, if a dataset can be opened; where a page was opened without app.py, let app.py run first.

    A just-started server runs a deep link's page file alone. Naming the pages switches the
    process to `st.navigation`, and the rerun starts at app.py. Call it once, at a page's top.
    """
    if not st.session_state.get(_IN_FRAME):
        configure()
        st.navigation(pages(), position="hidden")
        st.rerun()
    selection: Selection | None = st.session_state.get(_SELECTION)
    return selection


def require() -> Selection:
    """Return the selection as `framed` does, on a page that is drawn only where there is one."""
    selection = framed()
    if selection is None:
        st.stop()
    return selection


def choose_next(**names: str) -> None:
    """Have the next run choose this dataset, and this checkpoint of it."""
    st.session_state[_NEXT] = names


def link(page: str, label: str, icon: str, **own: str) -> None:
    """Draw a link to a page, with the view and parameters of its own."""
    st.page_link(page, label=label, icon=icon, query_params=address.leading(page) | own)


def undrawn(checkpoint: Checkpoint, sampled: Sampled | None = None) -> None:
    """Say that a model has drawn no picture, or none so (None is its own way), and lead to where it draws some."""
    panels.nothing(descriptions.undrawn(checkpoint, "This model", sampled), GENERATE, "Draw some")


def require_model(title: str, sentence: str) -> tuple[Dataset, Checkpoint]:
    """Draw a page's title and return the dataset and checkpoint; without a model say this and why, and stop there.

    Call it once, at a page's top, as `require`.
    """
    selection = require()
    st.title(title)
    if selection.checkpoint is None:
        lacking.why(selection.dataset)
        panels.nothing(sentence, GENERATE, "Train one")
        st.stop()
    return selection.dataset, selection.checkpoint


def sidebar(page: str = "") -> bool:
    """Draw the choice of dataset and checkpoint; return False where only the next step towards one is drawn.

    Args:
        page: The page's address path; those that add something are drawn without a dataset too.
    """
    given = st.session_state.pop(_NEXT, {})
    if "dataset" in given:
        st.session_state["dataset"] = given["dataset"]
    names = [*(known := catalogue.names()), *(name for name in catalogue.BUILT_IN if name not in known)]
    before = address.get("dataset")  # a switch of pages by a click drops what widgets held
    asked = _chosen("dataset", names, before if before in names else catalogue.DEFAULT)
    with st.sidebar:
        name = st.selectbox(
            "Dataset",
            names,
            key="dataset",
            help="The pictures that models are trained on. Those not here yet are prepared when you choose them.",
        )
        link(ADD_PICTURES, "Add pictures", ":material/add_photo_alternate:")
    address.of_dataset(name)
    if asked not in names:
        st.warning(f"Dataset '{panels.plain(asked)}' does not exist; showing '{panels.plain(name)}'.")
    try:
        dataset = catalogue.by_name(name)
    except StudioError as error:
        address.enter(name)
        address.put({"dataset": name})
        address.drop("checkpoint")
        st.session_state.pop(_SELECTION, None)
        if page in (Path(ADD_PICTURES).stem, Path(ADD_MODEL).stem):
            return True
        preparing.page(name, error)
        return False
    if "checkpoint" in given:
        st.session_state.pop("checkpoint", None)
        st.session_state.setdefault(_CHECKPOINTS, {})[dataset.digest] = given["checkpoint"]
    checkpoint = _checkpoint(dataset)
    readying.readied(checkpoint.digest if checkpoint else "", dataset, checkpoint)
    with st.sidebar:
        link(ADD_MODEL, "Add a model", ":material/add:")
    st.session_state[_SELECTION] = selection = Selection(dataset, checkpoint)
    changed = address.enter(checkpoint.digest if checkpoint else dataset.digest)
    address.put({"dataset": name} | ({"checkpoint": checkpoint.name} if checkpoint else {}))
    if checkpoint is None:
        address.drop("checkpoint")
    else:
        named.check(checkpoint)
        tuning.settle(checkpoint, changed)
    st.session_state[_OPENS] = _opens(selection, checkpoint) if checkpoint else {}
    with st.sidebar:
        _shortcuts()
    return True


def _chosen(key: str, names: list[str], usual: str) -> str:
    """Let a select box show what the address newly says, else what it showed before, else the usual.

    Returns:
        What the address says, known or not; the name that is shown where it says nothing new.
    """
    asked = address.fresh(key)
    if asked in names:
        st.session_state[key] = asked
    elif st.session_state.get(key) not in names:
        st.session_state[key] = usual
    return asked or str(st.session_state[key])


def _checkpoint(dataset: Dataset) -> Checkpoint | None:
    """Draw the choice of checkpoint in the sidebar; whole trainings come before their earlier states."""
    names = list(dict.fromkeys(c.name for c in checkpoints.listing(dataset.digest)))
    if not names:
        st.sidebar.caption("No checkpoint has been trained on this dataset yet.")
        return None
    last = st.session_state.setdefault(_CHECKPOINTS, {})
    if last.get("of") != dataset.digest:  # two datasets may have checkpoints of one name
        st.session_state.pop("checkpoint", None)
    asked = _chosen("checkpoint", names, last[dataset.digest] if last.get(dataset.digest) in names else names[0])
    with st.sidebar:
        name = st.selectbox(
            "Checkpoint",
            names,
            key="checkpoint",
            help="A trained model. 'name@50' is the same model after 50 % of its training.",
        )
    last |= {"of": dataset.digest, dataset.digest: name}
    if asked not in names:
        lacking.checkpoint(dataset, asked, name)
    return checkpoints.by_name(name, dataset.digest)


def _shortcuts() -> None:
    with st.popover("Keyboard", icon=":material/keyboard:", width="stretch"):
        st.markdown(
            "**Tab** to a row of pictures  \n**Arrow keys** from picture to picture  \n"
            "**Enter** opens or chooses  \n**←** and **→** step inside an opened picture  \n**Esc** closes it\n\n"
            "While you present: **→** goes on and **←** back, **↓** takes another method, **↑** another picture, "
            "**Esc** leaves"
        )
