"""What every page stands in: navigation, the sidebar's dataset and checkpoint, and links that reopen a view.

The sidebar's links to the pages carry the whole view (address.py), and the comparison that Counterfactual would open,
so that a page is reached in one step, which Back undoes. The opened example is an address parameter of its page alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dtrak_core import checkpoints, comparisons, datasets, program
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.settings import DIFFUSION_STEPS, Sampled
from dtrak_core.targets import Target
from dtrak_core.ui import address, panels, preparing, tuning

OVERVIEW, GENERATE, ATTRIBUTION = "pages/overview.py", "pages/generate.py", "pages/attribution.py"
COUNTERFACTUAL, BENCHMARK, JOBS = "pages/counterfactual.py", "pages/benchmark.py", "pages/jobs.py"
_CLOSING = st.components.v2.component(
    "studio_sidebar", html="<span></span>", js=(Path(__file__).parent / "sidebar.js").read_text(), isolate_styles=False
)
_IN_FRAME, _SELECTION, _CHECKPOINTS, _OPENS = "_in_frame", "_selection", "_checkpoints", "_opens"


@dataclass(frozen=True)
class Selection:
    """What the sidebar says: a dataset, and a checkpoint trained on it if there is one."""

    dataset: Dataset
    checkpoint: Checkpoint | None


def configure() -> None:
    """Set title, width and the tab's icon: a plain emoji, since a page's own icon would be asked from a font host."""
    st.set_page_config(page_title="D-TRAK Studio", page_icon="🔎", layout="wide")


def pages() -> list[st.Page]:
    """Return the pages, the first one being the start."""
    return [
        st.Page(
            OVERVIEW,
            title="Overview",
            icon=":material/home:",
            default=True,
            help="One generated picture and the training pictures behind it; the dataset and the model at a glance.",
        ),
        st.Page(
            GENERATE,
            title="Generate",
            icon=":material/draw:",
            help="Let the model draw new pictures, or train a model of your own.",
        ),
        st.Page(
            ATTRIBUTION,
            title="Attribution",
            icon=":material/account_tree:",
            help="Choose a picture and see which training pictures helped or hindered it, method by method.",
        ),
        st.Page(
            COUNTERFACTUAL,
            title="Counterfactual",
            icon=":material/compare:",
            help="Train again without the pictures that a method names, and see how far the same seed's picture moves.",
        ),
        st.Page(
            BENCHMARK,
            title="Benchmark",
            icon=":material/leaderboard:",
            help="How well each method predicts what training on other pictures does: the paper's tables and curves.",
        ),
        st.Page(
            JOBS,
            title="Jobs",
            icon=":material/list_alt:",
            help="What runs, waits and has ended; what the cache holds, and how large it may become.",
        ),
    ]


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """Mark that app.py runs, so that a page knows it has its frame; at the page's end write the address.

    The links to the pages are drawn with the last run's view, and again where this run changed it.
    """
    st.session_state[_IN_FRAME] = True
    place, before = st.sidebar.empty(), _leading()
    _links(place, before)
    try:
        yield
    finally:
        st.session_state.pop(_IN_FRAME, None)
        address.write()
        if _leading() != before:
            _links(place, _leading())
        with st.sidebar:  # at its end, where it takes no room
            _CLOSING(key="closing", data={})


def _leading() -> tuple[dict[str, str], dict[str, str]]:
    """Return the view that links carry, and what the one to Counterfactual carries as well."""
    return address.view(), st.session_state.get(_OPENS, {})


def _links(place: DeltaGenerator, leading: tuple[dict[str, str], dict[str, str]]) -> None:
    view, compared = leading
    with place.container(gap="xxsmall"):
        for page in pages():
            own = compared if page.title == "Counterfactual" else {}
            st.page_link(page, query_params=own | view, width="stretch")


def _opens(dataset: Dataset, checkpoint: Checkpoint) -> dict[str, str]:
    """Return as a parameter the comparison that Counterfactual opens where the view names none.

    Its link names it, for a page that writes it into the address only then makes one more step that Back undoes. Where
    one is under way, that is shown, and none is named.
    """
    if address.get("comparison") or not (key := comparisons.first(dataset, checkpoint.digest)):
        return {}
    return {} if panels.newest("counterfactual", checkpoint.digest) else {"comparison": key}


def require() -> Selection:
    """Return the selection; where a page was opened without app.py, let app.py run first.

    A just-started server runs a deep link's page file alone. Naming the pages switches the
    process to `st.navigation`, and the rerun starts at app.py. Call it once, at a page's top.
    """
    if not st.session_state.get(_IN_FRAME):
        configure()
        st.navigation(pages(), position="hidden")
        st.rerun()
    selection: Selection = st.session_state[_SELECTION]
    return selection


def require_model(title: str, lacking: str) -> tuple[Dataset, Checkpoint]:
    """Draw a page's title and return the dataset and checkpoint; without a model say what is lacking, and stop there.

    Call it once, at a page's top, as `require`.
    """
    selection = require()
    st.title(title)
    if selection.checkpoint is None:
        panels.nothing(lacking, GENERATE, "Train one")
        st.stop()
    return selection.dataset, selection.checkpoint


def sidebar() -> bool:
    """Draw the choice of dataset and checkpoint; return False where only the next step towards one is drawn."""
    names = [*(known := datasets.names()), *(name for name in datasets.BUILT_IN if name not in known)]
    before = address.get("dataset")  # a switch of pages by a click drops what widgets held
    asked = _chosen("dataset", names, before if before in names else datasets.DEFAULT)
    with st.sidebar:
        name = st.selectbox(
            "Dataset",
            names,
            key="dataset",
            help="The pictures that models are trained on. Those not here yet are prepared when chosen. Add your "
            f"own with `{program.command('dataset --help')}`.",
        )
    if asked not in names:
        st.warning(f"Dataset '{panels.plain(asked)}' does not exist; showing '{panels.plain(name)}'.")
    try:
        dataset = datasets.by_name(name)
    except StudioError as error:
        address.enter(name)
        address.put({"dataset": name})
        address.drop("checkpoint")
        preparing.page(name, error)
        return False
    checkpoint = _checkpoint(dataset)
    st.session_state[_SELECTION] = Selection(dataset, checkpoint)
    changed = address.enter(checkpoint.digest if checkpoint else dataset.digest)
    address.put({"dataset": name} | ({"checkpoint": checkpoint.name} if checkpoint else {}))
    if checkpoint is None:
        address.drop("checkpoint")
    else:
        tuning.settle(checkpoint, changed)
    st.session_state[_OPENS] = _opens(dataset, checkpoint) if checkpoint else {}
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
        st.warning(
            f"Checkpoint '{panels.plain(asked)}' does not exist for this dataset; showing '{panels.plain(name)}'."
        )
    return checkpoints.by_name(name, dataset.digest)


def _shortcuts() -> None:
    with st.popover("Keyboard", icon=":material/keyboard:", width="stretch"):
        st.markdown(
            "**Tab** to a row of pictures  \n**Arrow keys** from picture to picture  \n"
            "**Enter** opens or chooses  \n**←** and **→** step inside an opened picture  \n**Esc** closes it"
        )


def target_id(default: str) -> str:
    """Return the id of the target picture: the view's, else the default."""
    return address.get("sample") or default


def choose_target(target: Target) -> None:
    """Make a picture the target, in the link too; an opened example is closed. The page is to be run again then."""
    st.query_params.pop("example", None)
    address.drop(*address.DRAWN)
    address.put(link_to(target))
    address.write()  # at once: the next run begins with the address of this moment


def link_to(target: Target) -> dict[str, str]:
    """Return the address parameters that name a picture, and how it was drawn where that is not the usual way."""
    how = target.how
    told = {"sampler": how.sampler, "sampling_steps": str(how.sampling_steps), "guidance": f"{how.guidance:g}"}
    usual = {"sampler": "ddim", "sampling_steps": "50", "guidance": "7.5"}
    found = {name: value for name, value in told.items() if value != usual[name]}
    return {"sample": target.id} | found | ({"prompt": how.prompts[0]} if how.prompts else {})


def view_of(target: Target) -> dict[str, str]:
    """Return the address parameters of the whole view with this target."""
    return {name: value for name, value in address.view().items() if name not in address.DRAWN} | link_to(target)


def how(checkpoint: Checkpoint) -> Sampled:
    """Return how the link's picture is drawn; what it does not name properly is the usual way."""
    sampler, steps = address.get("sampler", "ddim"), address.get("sampling_steps", "50")
    known = sampler if sampler in ("ddim", "ddpm") else "ddim"
    found: dict[str, Any] = {"sampler": known}
    if steps.isdecimal() and 1 <= int(steps) <= DIFFUSION_STEPS:
        found["sampling_steps"] = int(steps)
    prompt = address.get("prompt")
    if prompt and checkpoint.base:  # the link may still name a prompt of another model
        found["prompts"] = (prompt,)
    with contextlib.suppress(ValueError):
        guidance = float(address.get("guidance", "7.5"))
        found |= {"guidance": guidance} if 1 <= guidance <= 100 else {}
    return Sampled(**found)


def to_attribution(target: Target, example: int | None = None) -> None:
    """Go to Attribution with this target, and with a training example opened where one is given."""
    address.drop(*address.DRAWN)
    address.put(link_to(target))
    st.switch_page(ATTRIBUTION, query_params=address.view() | ({} if example is None else {"example": str(example)}))
