"""Whether whoever looks at a page sits at the machine that the app runs on: no one else may name files of it.

Both ends must be on loopback: what the app listens on, and where the browser's request came from. A request that a
proxy passed on, or that names another host, came from elsewhere as far as can be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:\[]*))(?::\d+)?")  # of a URL: name or [address], and port
PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
ELSEWHERE = "Files of the machine that the app runs on can be named only on that machine itself. Upload them instead."


def here() -> bool:
    """Say whether this session's browser runs on the app's own machine."""
    heads = {name.lower(): value for name, value in st.context.headers.items()}
    return is_here(st.get_option("server.address"), heads, st.context.ip_address)


def is_here(listens: str | None, heads: Mapping[str, str], remote: str | None) -> bool:
    """Say whether a request came from this machine to an app that only this machine reaches.

    Args:
        listens: The address that the app listens on; None means all of the machine's.
        heads: Headers of the request, their names in small letters.
        remote: Address that the request came from; None or a loopback one is this machine.
    """
    host = _HOST.fullmatch(heads.get("host", "").strip().lower())
    return (
        listens in LOOPBACK
        and host is not None
        and (host[1] or host[2]) in LOOPBACK
        and remote in (None, *LOOPBACK)
        and not any(heads.get(one) for one in PASSED_ON)
    )
