"""At both ends of the sidebar: what this is, how to cite it, the link to what is shown.

And what the browser does beside each page (sidebar.js): closes the sidebar, reads the library of charts ahead.
"""

from __future__ import annotations

import functools
from pathlib import Path

import streamlit as st

NAME, LINE = "D-TRAK Studio", "Which training pictures made this picture?"
PAPER = "https://arxiv.org/abs/2311.00500"
CODE = "https://github.com/sail-sg/D-TRAK"
BIBTEX = """@inproceedings{zheng2024intriguing,
  title     = {Intriguing Properties of Data Attribution on Diffusion Models},
  author    = {Zheng, Xiaosen and Pang, Tianyu and Du, Chao and Jiang, Jing and Lin, Min},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  url       = {https://arxiv.org/abs/2311.00500}
}"""

_HERE = Path(__file__).parent
_COPY = st.components.v2.component(
    "studio_copy_link",
    html='<div class="studio-copy"><button type="button" disabled>Copy link</button><span role="status"></span></div>',
    css=(_HERE / "copy_link.css").read_text(),
    js=(_HERE / "copy_link.js").read_text(),
    isolate_styles=False,
)
_BESIDE = st.components.v2.component(
    "studio_sidebar", html="<span></span>", js=(_HERE / "sidebar.js").read_text(), isolate_styles=False
)


def head() -> None:
    """Draw the name and what it is for, above the links to the pages."""
    with st.sidebar.container(gap=None):
        st.markdown(f":material/search: **{NAME}**")
        st.caption(LINE)


def foot() -> None:
    """Draw the paper, its authors' code and how to cite it."""
    with st.sidebar:
        with st.popover("Cite", icon=":material/format_quote:", width="stretch"):
            st.write("The method is of this paper. Please cite it with what you find here.")
            st.code(BIBTEX, language=None)
        st.caption(f"By Zheng et al., ICLR 2024: [paper]({PAPER}), [their code]({CODE})")


def copying() -> None:
    """Draw the button that copies the address, which the browser reads: the end of each run has written it."""
    with st.sidebar:
        _COPY(key="copy-link", data=[])


def beside() -> None:
    """Put what the browser does beside every page into the sidebar, where it takes no room."""
    _BESIDE(key="closing", data=[_charts()])


@functools.cache
def _charts() -> list[str]:
    """Return the file of Streamlit's that holds the library of charts, by the name that the browser asks for."""
    return [file.name for file in (Path(st.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js")]
