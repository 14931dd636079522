"""How long a page takes to be drawn again: while nothing runs, and while a job trains on one core.

    python benchmarks/ui.py     writes benchmarks/results/ui.json

The real app in headless Chromium, on the shipped demo and an empty cache. The browser goes from page to page and
times each from the moment its script runs until it no longer does. Idle and busy alternate, so that
what else the machine does meets both. The training is a real job of the engine, with one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser_helpers import FLAGS, found_chromium, serving, settled  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from dtrak_core import store  # noqa: E402
from dtrak_core.datasets import catalogue  # noqa: E402
from dtrak_core.jobs import jobs, processes  # noqa: E402
from dtrak_core.training import presets  # noqa: E402

PAGES = ("Overview", "Generate", "Attribution", "Counterfactual", "Jobs")
RERUNS, ROUNDS = 8, 3
_WATCH = """() => {
  const app = document.querySelector('[data-test-script-state]');
  window.timed = new Promise((done, failed) => {
    let begun = null;
    const watch = new MutationObserver(() => {
      const state = app.getAttribute('data-test-script-state');
      if (state === 'running' && begun === null) begun = performance.now();
      if (state === 'notRunning' && begun !== null) { watch.disconnect(); done(performance.now() - begun); }
    });
    watch.observe(app, {attributes: true, attributeFilter: ['data-test-script-state']});
    setTimeout(() => failed(new Error('the script did not run to its end within 30 s')), 30000);
  });
}"""


def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        os.environ["STUDIO_CACHE"], os.environ["OMP_NUM_THREADS"] = place, "1"
        browser = playwright.chromium.launch(executable_path=found_chromium(), args=FLAGS)
        with serving(Path(place), store.demo_root()) as (address, server):
            times: dict[str, dict[str, list[float]]] = {page: {"idle": [], "busy": []} for page in PAGES}
            for _ in range(ROUNDS):
                _measure(browser, address, times, "idle")
                key = _training()
                _measure(browser, address, times, "busy")
                assert jobs.state(key).state == "running", "the job must run as long as it is measured"
                jobs.cancel(key)
                jobs.wait(key)
            torch = "torch" in Path(f"/proc/{server.pid}/maps").read_text()
        browser.close()
    rows = []
    for page, both in times.items():
        idle, busy = (statistics.median(both[state]) for state in ("idle", "busy"))
        rows.append({"page": page, "idle_ms": round(idle), "busy_ms": round(busy), "ratio": round(busy / idle, 2)})
        print(f"{page:<16} idle {idle:6.0f} ms   while a job runs {busy:6.0f} ms   ratio {busy / idle:.2f}")
    facts = {"cores": processes.cores(), "reruns": RERUNS * ROUNDS, "server_imports_torch": torch, "rows": rows}
    result = ROOT / "benchmarks" / "results" / "ui.json"
    result.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"torch in the app's process: {'yes' if torch else 'no'}; written to {result.relative_to(ROOT)}")


def _training() -> str:
    """Start a training that lasts longer than the measurement; return its key once it trains."""
    dataset = catalogue.by_name(catalogue.DEFAULT)
    settings = presets.train_settings("demo", dataset.digest, epochs=1000)
    key, _ = jobs.submit(jobs.TrainJob(train=settings, name="busy"), "Train in the background")
    while jobs.state(key).done < 3:
        time.sleep(0.2)
    return key


def _measure(browser: Any, address: str, times: dict[str, dict[str, list[float]]], state: str) -> None:
    """Go from page to page by the navigation, as a user does, and note how long each script runs."""
    tab = browser.new_page()
    tab.goto(address)
    settled(tab)
    for turn in range(RERUNS + 1):
        for page in [*PAGES[1:], PAGES[0]]:
            tab.evaluate(_WATCH)
            tab.get_by_test_id("stSidebarNav").get_by_role("link", name=page).click()
            took = tab.evaluate("() => window.timed")
            if turn:  # the first fills caches
                times[page][state].append(took)
            tab.wait_for_timeout(250)
    tab.close()


if __name__ == "__main__":
    main()
