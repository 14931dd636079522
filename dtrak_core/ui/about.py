"""What this is, whose idea, and how to cite it: at both ends of the sidebar."""

from __future__ import annotations

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
