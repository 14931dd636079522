"""How long a user waits after a click, from a cold start on, in headless Chromium.

    python benchmarks/clicks.py     some three minutes; writes benchmarks/results/clicks.json

The real app on the shipped demo and an empty cache; everything is timed by the browser's clock.

    first page       the first browser of a new server asks for Overview, until its script has run and nothing moves;
                     and a second browser, which has nothing stored, later
    own picture      no engine lives when the server starts; a picture is uploaded and Compute pressed as soon as the
                     pages have come to rest, until D-TRAK's row is there: with STUDIO_READY=0, where that press starts
                     the engine, and without
    held-out picture with the engine as it then is
    page changes     each link of the sidebar, from the click until the script has run: the first time, and the median
                     of later ones
    Square scores    the toggle over the table of methods, likewise
    on Attribution   another target, a proponent's dialog, another damping, until that is drawn: the median of four
"""

from __future__ import annotations

import io
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from browser_helpers import FLAGS, found_chromium, serving, settled  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from dtrak_core import store  # noqa: E402
from dtrak_core.jobs import processes  # noqa: E402

PAGES = (
    "Generate",
    "Attribution",
    "Counterfactual",
    "Benchmark",
    "Credit",
    "Copies",
    "Doctor",
    "Map",
    "Jobs",
    "Overview",
)
ROUNDS, STILL = 4, 250
RAN = """() => {
  const app = document.querySelector('[data-test-script-state]');
  const begun = performance.now();
  window.ran = new Promise((done, failed) => {
    let running = false;
    const watch = new MutationObserver(() => {
      const state = app.getAttribute('data-test-script-state');
      if (state === 'running') running = true;
      if (state === 'notRunning' && running) { watch.disconnect(); done(performance.now() - begun); }
    });
    watch.observe(app, {attributes: true, attributeFilter: ['data-test-script-state']});
    // A script so short that the browser drew its beginning and its end at once was never seen to run.
    let last = 0;
    new MutationObserver(() => { last = performance.now(); }).observe(app, {subtree: true, childList: true});
    setInterval(() => { if (!running && last && performance.now() - last > 1000) done(last - begun); }, 100);
    setTimeout(() => failed(new Error('the script did not run to its end within 30 s')), 30000);
  });
}"""

DRAWN = """part => {
  // Components draw in roots of their own, into which the document's selectors do not reach.
  const inside = each => each.shadowRoot ? [each, ...all(each.shadowRoot)] : [each];
  const all = root => [...root.querySelectorAll('*')].flatMap(inside);
  const now = () => all(document).filter(each => each.matches(part)).map(each => each.textContent).join();
  const before = now();
  let begun = 0;
  const begin = () => { begun ||= performance.now(); };
  for (const kind of ['click', 'keydown']) document.addEventListener(kind, begin, true);
  window.drawn = new Promise((done, failed) => {
    const look = () => begun && now() !== before ? done(performance.now() - begun) : requestAnimationFrame(look);
    look();
    setTimeout(() => failed(new Error('nothing was drawn within 30 s')), 30000);
  });
}"""


def main() -> None:
    """Measure and write the result."""
    found: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found_chromium(), args=FLAGS)
        warmed = browser.new_page()  # the browser itself is no part of what is measured
        warmed.goto("data:text/html,ready")
        for ready in ("0", "1"):
            os.environ["STUDIO_READY"] = ready
            with tempfile.TemporaryDirectory() as place, _served(Path(place)) as (address, _):
                found["readied" if ready == "1" else "engine started by the click"] = _visit(browser, address, ready)
        browser.close()
    report = {"cores": processes.cores(), "load": os.getloadavg()[0], "seconds": _rounded(found)}
    print(json.dumps(report, indent=1))
    result = ROOT / "benchmarks" / "results" / "clicks.json"
    result.write_text(json.dumps(report, indent=1) + "\n")


def _served(cache: Path) -> Any:
    """Start the app as a user does."""
    return serving(cache, store.demo_root(), ("dtrak_core", "app", "--port"))


def _visit(browser: Any, address: str, ready: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tab = browser.new_page()
    found["first page"] = _until(lambda: tab.goto(address), lambda: settled(tab, STILL)) - STILL / 1000
    found["Attribution, first"] = _script(tab, link(tab, "Attribution").click)
    found["own picture"] = _explained(tab, _upload)
    found["held-out picture"] = _explained(tab, _held_out)
    if ready == "1":
        found["pages"] = _pages(tab)
        found["on Attribution"] = _attribution(tab)
        link(tab, "Benchmark").click()
        settled(tab)
        toggle = tab.get_by_text("Square scores first")
        times = [_script(tab, toggle.click) for _ in range(ROUNDS)]
        found["Square scores"] = {"first": times[0], "later": statistics.median(times[1:])}
    tab.close()
    new = browser.new_context().new_page()
    found["first page, another browser"] = _until(lambda: new.goto(address), lambda: settled(new, STILL)) - STILL / 1000
    new.close()
    return found


def _until(first: Any, last: Any) -> float:
    began = time.perf_counter()
    first()
    last()
    return time.perf_counter() - began


def _script(tab: Any, act: Any) -> float:
    """Return the seconds from a click until the script has run."""
    tab.evaluate(RAN)
    act()
    took = float(tab.evaluate("() => window.ran")) / 1000
    settled(tab)
    return took


def link(tab: Any, page: str) -> Any:
    """Return a page's link in the sidebar."""
    return tab.get_by_test_id("stSidebar").get_by_role("link", name=page)


def _pages(tab: Any) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {page: [] for page in PAGES}
    for _ in range(ROUNDS):
        for page in PAGES:
            times[page].append(_script(tab, link(tab, page).click))
    return {page: {"first": each[0], "later": statistics.median(each[1:])} for page, each in times.items()}


def _attribution(tab: Any) -> dict[str, float]:
    """Return the median seconds until another target's figure, a dialog's pictures and another damping's are drawn."""
    link(tab, "Attribution").click()
    settled(tab)
    tab.get_by_role("radio", name="Generated").or_(tab.get_by_role("button", name="Generated")).first.click()
    settled(tab)
    times: dict[str, list[float]] = {"target": [], "dialog": [], "damping": []}
    for seed in range(3, 3 + ROUNDS):
        times["target"].append(_drawn(tab, ".with-target", tab.locator(f"button[data-key='seed:{seed}']").click))
        proponent = tab.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first
        times["dialog"].append(_drawn(tab, ".side", proponent.click))
        tab.keyboard.press("Escape")
        tab.get_by_role("dialog").wait_for(state="hidden")
        settled(tab)
        slider = tab.get_by_role("slider", name=re.compile("^D-TRAK: effective rank")).first
        slider.focus()
        times["damping"].append(_drawn(tab, ".with-target", lambda: tab.keyboard.press("ArrowRight")))
    return {what: statistics.median(each) for what, each in times.items()}


def _drawn(tab: Any, part: str, act: Any) -> float:
    """Return the seconds from a click or a key until a part of the page is drawn otherwise than before."""
    settled(tab)
    tab.evaluate(DRAWN, part)
    act()
    took = float(tab.evaluate("() => window.drawn")) / 1000
    settled(tab)
    return took


def _explained(tab: Any, choose: Any) -> float:
    """Choose a picture that nothing is known of, press Compute, and return the seconds until D-TRAK's row is there."""
    choose(tab)
    button = tab.get_by_role("button", name="Compute")
    button.wait_for()
    row = tab.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first
    settled(tab)
    assert not row.is_visible(), "the picture is known already"
    return _until(button.click, lambda: row.wait_for(timeout=120_000))


def _upload(tab: Any) -> None:
    kept = io.BytesIO()
    Image.fromarray(np.random.default_rng(time.time_ns()).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        kept, "PNG"
    )
    tab.get_by_role("radio", name="Your own").or_(tab.get_by_role("button", name="Your own")).first.click()
    tab.locator("input[type=file]").set_input_files(
        {"name": "own.png", "mimeType": "image/png", "buffer": kept.getvalue()}
    )


def _held_out(tab: Any) -> None:
    tab.get_by_role("radio", name="Held out").or_(tab.get_by_role("button", name="Held out")).first.click()
    tab.get_by_label("Held-out pictures").get_by_role("button").nth(7).click()


def _rounded(value: Any) -> Any:
    return {k: _rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 2)


if __name__ == "__main__":
    main()
