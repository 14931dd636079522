"""Faders on the Attribution page: turn layers and noise levels up or down, and the ranking follows.

How they stand is in the address, by method; where all are at 1, nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from dtrak_core import store
from dtrak_core.features.fader_layout import BANDS, Faders, refusal, together
from dtrak_core.features.settings import FeatureSettings, feature_target, in_parts
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob, FaderJob
from dtrak_core.methods import agreement, fader_scores, results, scores, turned
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.methods.plans import Needed
from dtrak_core.settings import Settings, build, key_of
from dtrak_core.ui import gallery, linked, panels, rows
from dtrak_core.ui.answers import Question
from dtrak_core.ui.attribution import compute
from dtrak_core.ui.leads import FADERS

TURNED = ("d-trak", "trak")
BAND_NAMES = {"fine": "Fine noise", "middle": "Middle noise", "coarse": "Coarse noise"}
HIGHEST = 3.0
_NOTHING = "With everything at 0 there is nothing to rank by; the ranking shown has all at 1."
_NO_DRAWS = (
    "The layers and noise levels that are up have no draws or no gradients here, so there is nothing to rank by; the "
    "ranking shown has all at 1. Turn up others."
)
_LAST, _LEARNING = "_fader_last", "_fader_learning"  # keys of jobs, in the session


@dataclass(frozen=True)
class Ask:
    """Which target's ranking is turned, by which method's features in parts."""

    question: Question
    features: FeatureSettings
    method: str
    groups: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Return the sliders' keys: noise levels, then layers."""
        return [f"fader-{self.method}-{name}" for name in (*BANDS, *self.groups)]

    def job(self, faders: Faders | None) -> FaderJob:
        """Return the job that ranks at a position of the faders; None learns the layers' weights."""
        place = {} if faders is None else {"layers": faders.layers, "bands": faders.bands}
        target = self.question.target
        return build(FaderJob, features=self.features, target=target.id, **place, **target.sampled.drawing())


def settings_of(question: Question, method: Method) -> FeatureSettings:
    """Return the settings of a method's features in parts."""
    base = question.base(method.id)
    plain = scores.feature_settings(method, question.dataset.digest, question.checkpoint.digest, base)
    return in_parts(plain)


def unfit(features: FeatureSettings) -> str:
    """Say why no features in parts can be computed and what to do; nothing where they can."""
    if reason := refusal(features):
        reason += " This page takes what was stored first: delete such features under Jobs, and it computes others."
    return reason


def lacking(question: Question, features: FeatureSettings) -> list[Needed]:
    """Return which features in parts have to be computed, of the training pictures and of the target."""
    wanted: list[tuple[str, Settings]] = [
        ("features", features),
        ("target-features", feature_target(features, question.target, fader_scores.SIDE)),
    ]
    keyed = [(kind, key_of(kind, one), one) for kind, one in wanted]
    return [one for one in keyed if store.find(one[0], one[1]) is None]


def show(question: Question, counts: tuple[int, int], families: Sequence[str] | None) -> None:
    """Draw the faders and the ranking that they give, or what has to be computed first."""
    method = linked.bound(
        st.segmented_control,
        "Method",
        list(TURNED),
        default=TURNED[0],
        format_func=lambda name: METHODS[name].label,
        key="fader-method",
        required=True,
    )
    settings = settings_of(question, METHODS[str(method)])
    if reason := unfit(settings):
        st.info(reason)
        return
    trained = store.find("features", key_of("features", settings))
    own = fader_scores.target_rows(settings, [question.target])
    if trained is None or own is None:
        _offer(question, settings)
        return
    groups = trained.manifest["groups"]
    ask = Ask(question, settings, str(method), groups)
    _from_address(ask)
    _take_over(ask)
    faders, neutral = _sliders(ask), fader_scores.neutral(len(groups))
    if not together(own, trained.manifest["group_widths"], faders).any():
        st.info(_NOTHING if not any(faders.bands) or not any(faders.layers) else _NO_DRAWS)
        faders = neutral
    now, before = _found(ask, faders, "these faders"), _found(ask, neutral, "every fader at 1")
    if now is None or before is None:
        _follow(ask, faders if now is None else neutral)
    shown = [one for one in (now, before) if one is not None]
    if shown:
        both = [rows.row(one, question.dataset, counts, families=families) for one in shown]
        gallery.figure("fader_figure", "Ranking with these faders", rows.target(question.target), both, counts)
    if now is not None and before is not None:
        top = agreement.top_of(len(now.order))
        shared = len(np.intersect1d(now.order[:top], before.order[:top]))
        st.caption(f"{shared} of the first {top} are the same as with every fader at 1.")


def _found(ask: Ask, faders: Faders, words: str) -> results.Ranking | None:
    """Return the stored ranking at a position of the faders."""
    found = turned.find(ask.features, ask.question.target, faders)
    if found is None:
        return None
    label = f"{METHODS[ask.method].label}, {words}"
    return results.ranking(ask.method, label, found.values, found.damping, found.effective_rank)


def _follow(ask: Ask, faders: Faders | None) -> bool:
    """Have a position ranked, or the layers' weights learned, by a worker; one at a time, the newest position next.

    Returns:
        Whether it is on its way; if not, why has been said.
    """
    job = ask.job(faders)
    key, last = jobs.key_of_job(job), st.session_state.get(_LAST, "")
    if last and last != key and jobs.state(last).going:
        panels.follow(last)  # the page is drawn again when it ends, and asks for what is wanted then
        return True
    label = f"Faders for {ask.question.target.called} of {ask.question.checkpoint.name}"
    if jobs.state(key).state in ("idle", "done") and not panels.started(job, label):
        return False
    st.session_state[_LAST] = key
    panels.follow(key)
    return True


def _take_over(ask: Ask) -> None:
    """Set the layers' faders to the weights that were asked for, once they are learned."""
    if st.session_state.get(_LEARNING) != jobs.key_of_job(ask.job(None)):
        return
    weights = turned.learned(ask.features, ask.question.target)
    if weights is None:
        if not _follow(ask, None):
            del st.session_state[_LEARNING]
        return
    del st.session_state[_LEARNING]
    _set(ask.names[len(BANDS) :], [round(min(HIGHEST, float(weight)), 1) for weight in weights])


def _sliders(ask: Ask) -> Faders:
    names = ask.names
    with st.container(horizontal=True):
        st.button("All to 1", on_click=_set, args=(names, [1.0] * len(names)), icon=":material/restart_alt:")
        st.button(
            "Let the scores weigh the layers",
            on_click=_learn,
            args=(ask,),
            icon=":material/auto_fix_high:",
            help="Chooses the layers' weights that make the strongest pictures stand out most (PW, 2026). This "
            "needs no labels and no retraining; a better ranking is not guaranteed.",
        )
    st.caption("Noise levels")
    bands = _row([BAND_NAMES[name] for name in BANDS], names[: len(BANDS)])
    st.caption("Layers, from input to output")
    layers = _row([_spoken(name) for name in ask.groups], names[len(BANDS) :])
    _to_address(ask, [*bands, *layers])
    return Faders(tuple(layers), tuple(bands))


def _from_address(ask: Ask) -> None:
    """Set the faders as the address newly says: by a link, Back or Forward, or where the tab is opened again."""
    name, keys = f"faders-{ask.method}", ask.names
    said, drawn = st.query_params.get(name, ""), keys[0] in st.session_state
    if said == st.session_state.get(f"_{name}", "") and (drawn or not said):
        return
    values = [1.0] * len(keys)
    if said:
        given = _numbers(said)
        if len(given) == len(keys) and all(0 <= value <= HIGHEST for value in given):
            values = given
        else:
            linked.wrong(FADERS, said, "every fader at 1")
    _set(keys, values)


def _to_address(ask: Ask, values: Sequence[float]) -> None:
    name = f"faders-{ask.method}"
    words = "" if set(values) == {1.0} else ",".join(f"{value:g}" for value in values)
    if words:
        st.query_params[name] = words
    else:
        st.query_params.pop(name, None)
    st.session_state[f"_{name}"] = words


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []


def _row(labels: Sequence[str], keys: Sequence[str]) -> list[float]:
    found = []
    with st.container(horizontal=True):
        for label, key in zip(labels, keys, strict=True):
            found.append(st.slider(label, 0.0, HIGHEST, st.session_state.get(key, 1.0), 0.1, key=key, width=150))
    return found


def _set(names: Sequence[str], values: Sequence[float]) -> None:
    for name, value in zip(names, values, strict=True):
        st.session_state[name] = value


def _learn(ask: Ask) -> None:
    st.session_state[_LEARNING] = jobs.key_of_job(ask.job(None))


def _spoken(group: str) -> str:
    """Return a layer group's name in words."""
    first, _, number = group.partition(".")
    words = {
        "conv_in": "First layer", "time_embedding": "Time", "down_blocks": "Down", "mid_block": "Middle",
        "up_blocks": "Up", "conv_norm_out": "Last norm", "conv_out": "Last layer",
    }  # fmt: skip
    return f"{words.get(first, first)} {int(number) + 1}" if number else words.get(first, first)


def _offer(question: Question, settings: FeatureSettings) -> None:
    """Say what the faders need, and offer to compute it; or show how far that is."""
    drawn = question.target.sampled.drawing()
    job = build(AttributeJob, features=(settings,), targets=(question.target.id,), **drawn)

    def cost() -> None:
        st.write("Faders need features that keep layers and noise levels apart.")
        st.markdown(f"- {compute.sentence(question, str(_method_of(settings)), lacking(question, settings))}")

    panels.offer(job, "Compute", f"Faders for {question.target.called} of {question.checkpoint.name}", cost)


def _method_of(settings: FeatureSettings) -> str:
    found = fader_scores.method_of_features(settings)
    assert found is not None  # only their features are asked for
    return found.id
