"""The settings of the Attribution page: methods, pictures a row, features, damping. All are in the link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import ModelOutput
from dtrak_core.methods import certainty, defaults, fader_scores, own_scores
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import address, linked, panels

FIRST = ["d-trak", "trak"]
USUAL = "usual"
WHOLE = [output for output in get_args(ModelOutput) if output != "interpolated"]
TIMESTEPS, DIMENSIONS = ["10", "50", "100"], ["1024", "4096", "16384"]


def settle(checkpoint: Checkpoint, changed: bool) -> None:
    """Let methods and damping be what the address newly says, else what they were for this checkpoint.

    Args:
        checkpoint: The one chosen.
        changed: Whether another one was chosen in the last run.
    """
    asked = address.fresh("methods")
    if asked is not None or "methods" not in st.session_state:
        named, unknown = _named(address.get("methods") if asked is None else asked, checkpoint.dataset)
        st.session_state["methods"] = named or FIRST
        if unknown:
            st.warning(f"There is no method '{panels.plain(unknown[0])}'; the address names those shown.")
    chosen = [method for method in METHODS if method in (st.session_state["methods"] or FIRST)]
    for name in chosen:
        settle_damping(METHODS[name], checkpoint, changed)
    address.put({"methods": ",".join(chosen)})


def settle_damping(method: Method, checkpoint: Checkpoint, changed: bool = False) -> None:
    """Let a method's damping be what the address newly says, else what it was, else its usual one; put it there."""
    if not method.damped:
        return
    key = f"{address.RANK}{method.id}"
    if changed or key not in st.session_state or address.fresh(key) is not None:
        said, usual = address.get(key), round(100 * usual_rank(method, checkpoint))
        percent = address.rank(said)
        st.session_state[key] = usual if percent is None else percent
        if said and percent is None:
            st.warning(f"Effective rank '{panels.plain(said)}' is not 1 to 95 %; showing {usual} %.")
    address.put({key: str(st.session_state[key])})


def _named(said: str, dataset: str) -> tuple[list[str], list[str]]:
    """Return the methods that an address names, by id or as older links do by label, and what is no method.

    Several datasets may have own scores of one name: those of the dataset that is shown (its digest) are meant.
    """
    ids = {one.label: name for name, one in METHODS.items()} | {name: name for name in METHODS}
    words = [w for line in said.split("\n") for w in ([line] if line in ids else line.split(",")) if w]
    for name in {one.name for one in own_scores.every()}:
        own = METHODS[(own_scores.newest(name, dataset) or own_scores.parse(name)).id]
        ids[f"{own_scores.PREFIX}{name}"] = ids[own.label] = own.id
    return [ids[word] for word in words if word in ids], [word for word in words if word not in ids]


def methods() -> list[str]:
    """Draw the choice of methods; return their ids in a fixed order, never none."""
    chosen = st.pills(
        "A row for each method",
        list(METHODS),
        selection_mode="multi",
        format_func=lambda method: METHODS[method].label,
        key="methods",
        help="D-TRAK and TRAK look into the model. The others compare pictures or gradients: a baseline to beat.",
    )
    return [method for method in METHODS if method in (chosen or FIRST)]


def counts() -> tuple[int, int]:
    """Draw how many pictures a row has; return proponents and opponents."""
    first = linked.bound(st.slider, "Proponents a row", 1, 12, 5, key="proponents")
    last = linked.bound(st.slider, "Opponents a row", 0, 12, 3, key="opponents")
    return first, last


def families(dataset: Dataset) -> list[str] | None:
    """Draw the switch that shows one picture of each family; return the families where it is on."""
    known = [row["family"] for row in dataset.train.rows]
    if not any(known):
        return None
    folded = linked.bound(
        st.toggle,
        "One of each family",
        key="fold",
        help="Near-duplicates, such as one picture in several skin tones, crowd a row. This shows the strongest of "
        "each and says for how many others it stands.",
    )
    return known if folded else None


def changes(dataset: Dataset, checkpoint: Checkpoint) -> dict[str, Any]:
    """Draw the choice of features; return what differs from the stored or usual ones."""
    usual = defaults.feature_settings_for(dataset.digest, checkpoint.digest, "squared-output")
    steps = linked.bound(
        st.selectbox,
        "Timesteps",
        [USUAL, *TIMESTEPS],
        format_func=lambda value: f"usual ({usual.num_timesteps})" if value == USUAL else value,
        key="timesteps",
        help="Noise levels at which each picture is looked at. More take longer and give steadier scores.",
    )
    width = linked.bound(
        st.selectbox,
        "Projection dimension",
        [USUAL, *DIMENSIONS],
        format_func=lambda value: f"usual ({usual.proj_dim:,})" if value == USUAL else f"{int(value):,}",
        key="dimension",
        help="Numbers kept of each gradient. More need more disk and lose less.",
    )
    asked = {"num_timesteps": steps, "proj_dim": width}
    return {name: int(value) for name, value in asked.items() if value not in (None, USUAL)}


def model_output() -> ModelOutput | None:
    """Draw the choice of the model output function of all methods of gradients; None leaves each its own."""
    chosen = linked.bound(
        st.selectbox,
        "Model output",
        [USUAL, *WHOLE],
        format_func=lambda value: "each method's own" if value == USUAL else value,
        key="output",
        help="The number of the model whose gradient is compared: D-TRAK's own is squared-output, TRAK's loss. "
        "Squared-noise and squared-clean take the noise or the clean picture that the output means, whatever the "
        "network predicts.",
    )
    return None if chosen in (None, USUAL) else chosen


def usual_rank(method: Method, checkpoint: Checkpoint) -> float:
    """Return the effective rank over N that a method starts with: where both halves of the draws agree, or its own."""
    return _chosen(method.id, checkpoint.dataset, checkpoint.digest) or method.rank_share or 0.0


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def _chosen(method: str, dataset: str, checkpoint: str) -> float | None:
    """Return the damping that the halves choose, by the usual features; looked up once a minute, for it reads all."""
    return fader_scores.chosen_share(method, defaults.base_for(dataset, checkpoint, METHODS[method], {}))


def ranks(chosen: Sequence[str], checkpoint: Checkpoint, count: int) -> dict[str, float]:
    """Draw the damping of each damped method; return effective rank over the number of training pictures."""
    damped = [METHODS[method] for method in chosen if METHODS[method].damped]
    found = {}
    with st.container(horizontal=True):
        for method in damped:
            usual = round(100 * usual_rank(method, checkpoint))
            why = (
                "with the usual features, both halves of the draws share most of their first pictures there"
                if _chosen(method.id, checkpoint.dataset, checkpoint.digest)
                else "the paper's best values lie there"
            )
            value = st.slider(
                f"{method.label}: effective rank",
                certainty.PERCENT.start,
                certainty.PERCENT[-1],
                format="%d %%",
                key=f"{address.RANK}{method.id}",
                width=260,
                help=f"Damping, as the share of the {count:,} possible directions that still count. "
                f"Less means a smoother answer. {usual} % is the start: {why}.",
            )
            found[method.id] = value / 100
    return found
