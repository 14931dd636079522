"""A benchmark to take along, and scores that come back as a method."""

from __future__ import annotations

import streamlit as st

from dtrak_core.lds import benchmark_files
from dtrak_core.lds.benchmark_files import BenchmarkFile, Returned
from dtrak_core.ui import panels, uploading
from dtrak_core.ui.questions import Question

MOST = 200  # MiB of returned scores
TOLD = "_own-scores-told"


def show(question: Question) -> None:
    """Draw the benchmark's file and the upload of scores, once they are asked for."""
    more = st.expander("Judge scores of your own", key="own-scores", on_change="rerun", icon=":material/swap_vert:")
    if not more.open:
        return
    with more:
        st.caption(
            "Take along which pictures each part of the training set held, what was measured and the target pictures. "
            "Bring back an .npz with `scores`, a row for each of its `targets`, and its `benchmark`."
        )
        name = f"{question.checkpoint.name}-benchmark.npz"
        data = _packed(f"{question.key} {question.dataset.key} {question.checkpoint.name}", question)
        st.download_button("Benchmark", data, name, "application/octet-stream", icon=":material/download:",
                           on_click="ignore")  # fmt: skip
        called = st.text_input("Name of your scores", "mine", key="own-scores-name", width=260)

        def keep(data: bytes, _: str) -> Returned:
            return benchmark_files.take_back(called, data, _opened(question))

        found = uploading.taken("Scores (.npz)", "own-scores-file", keep, ["npz"], MOST)
        if found is not None:
            st.session_state[TOLD] = benchmark_files.sentences(found)
            st.rerun()  # the table above has one method more
        if told := st.session_state.pop(TOLD, None):
            st.success(panels.plain(" ".join(told)), icon=":material/check:")


@st.cache_data(max_entries=4, show_spinner=False)
def _packed(key: str, _question: Question) -> bytes:
    return _opened(_question).to_bytes()


def _opened(question: Question) -> BenchmarkFile:
    return benchmark_files.of_checkpoint(question.dataset, question.checkpoint)
