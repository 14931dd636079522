"""What browser tests share: the app on a free port, and the moment when a page has come to rest."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from dtrak_core import store

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def found_chromium() -> str | None:
    """Return this machine's Chromium, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def serve(cache: Path, demo: Path) -> Iterator[str]:
    """Run the app on a free port; yield its address."""
    with serving(cache, demo) as (address, _):
        yield address


@contextlib.contextmanager
def serving(
    cache: Path, demo: Path, start: Sequence[str] = ("streamlit", "run", "app.py", "--server.port")
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the app on a free port, which ends the words that start it; yield its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "STUDIO_CACHE": str(cache), "STUDIO_DEMO": str(demo), "STUDIO_WORKER_IDLE": "20"}
    command = [sys.executable, "-m", *start, str(port)]
    process = subprocess.Popen(
        command, cwd=store.PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("The app did not start within 60 s.")


# Called once nothing of a page has changed for so many milliseconds and its script does not run.
_STILL = """still => new Promise(done => {
  const app = document.querySelector('[data-test-script-state]');
  let timer = null;
  const begin = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (app.getAttribute('data-test-script-state') !== 'notRunning') return begin();
      watch.disconnect();
      done();
    }, still);
  };
  const watch = new MutationObserver(begin);
  watch.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
  begin();
})"""


def settled(page: Any, still: int = 250) -> None:
    """Wait until the script of the page has run to its end, its components are drawn and nothing changes any more."""
    page.wait_for_selector("[data-test-script-state='notRunning']")
    # Asked again and again: what is seen first may be of the page before, and of the new one nothing comes.
    drawn, keys = page.locator("[data-testid='stBidiComponentIsolated']"), page.locator("button[data-key]")
    end = time.monotonic() + 60
    while drawn.count() and not keys.count():  # some lie in what is folded
        assert time.monotonic() < end, f"A component of {page.url} was not drawn within 60 s."
        page.wait_for_timeout(50)
    page.evaluate(_STILL, still)


def serious(page: Any, *rules: str) -> list[tuple[str, list[str]]]:
    """Return what axe finds serious or critical on a page, or of headings that skip a level: the rule, the elements.

    All rules are tried, or those named.
    """

    def counts(violation: dict[str, Any]) -> bool:
        return violation["impact"] in ("serious", "critical") or violation["id"] == "heading-order"

    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found if counts(v)]


def serious_in_both_schemes(page: Any) -> dict[str, list[tuple[str, list[str]]]]:
    """Return what axe finds serious on a page that is light, and then dark, as it follows its system, once at rest.

    Its elements are the same in both, only their colours differ: in the second scheme the rule of contrast is tried
    alone.
    """
    found = {}
    for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
        shown(page, scheme)
        if problems := serious(page, *rules):
            found[scheme] = problems
    return found


def shown(page: Any, scheme: str) -> None:
    """Show a page light or dark, as it follows its system, and wait until it has come to rest."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(_SHOWS, arg=scheme)
    settled(page)


# Whether the app's text is darker than what it stands on, and so the page light.
_SHOWS = """scheme => {
  const style = getComputedStyle(document.querySelector('[data-testid=stApp]'));
  const [text, ground] = [style.color, style.backgroundColor].map(
    colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
  return (text < ground) === (scheme === 'light');
}"""


def fits(page: Any) -> bool:
    """Say whether a page is no wider than its window."""
    wide = page.evaluate("[document.querySelector('[data-testid=stMain]').scrollWidth, innerWidth]")
    return bool(wide[0] <= wide[1])


def took(what: str, begin: float, record_property: Callable[[str, object], None]) -> float:
    """Print and note how long one of the uses that the app is made for took since then, in seconds."""
    seconds = time.monotonic() - begin
    print(f"\n{what}: {seconds:.1f} s")
    record_property(what, round(seconds, 1))
    return seconds
