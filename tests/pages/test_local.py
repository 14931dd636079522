"""Who may name files of the machine that the app runs on: nobody whose browser may run on another."""

from __future__ import annotations

import pytest

from dtrak_core.ui import local


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "LOCALHOST", "[::1]:8501"])
def test_a_browser_on_the_machine_may(host: str) -> None:
    assert local.is_here("127.0.0.1", {"host": host}, None)
    assert local.is_here("localhost", {"host": host}, "127.0.0.1")


@pytest.mark.parametrize(
    ("listens", "heads", "remote"),
    [
        (None, {"host": "127.0.0.1:8501"}, None),
        ("0.0.0.0", {"host": "127.0.0.1:8501"}, None),
        ("192.168.0.7", {"host": "192.168.0.7:8501"}, "192.168.0.9"),
        ("127.0.0.1", {"host": "127.0.0.1:8501"}, "192.168.0.9"),
        ("127.0.0.1", {"host": "studio.example"}, None),
        ("127.0.0.1", {"host": "localhost.example:8501"}, None),
        ("127.0.0.1", {"host": "[::1].example"}, None),
        ("127.0.0.1", {"host": "127.0.0.1:8501", "x-forwarded-for": "192.168.0.9"}, None),
        ("127.0.0.1", {"host": "127.0.0.1:8501", "forwarded": "for=192.168.0.9"}, None),
        ("127.0.0.1", {}, None),
    ],
)
def test_others_may_not(listens: str | None, heads: dict[str, str], remote: str | None) -> None:
    assert not local.is_here(listens, heads, remote)
