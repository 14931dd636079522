"""Makes the cache that test_old_cache.py opens, with the code of commit efcddcb, the last one before the packages.

    git worktree add ../old efcddcb && cd ../old
    PYTHONPATH=.:tests python /path/to/make_old_cache.py /path/to/old-cache.zip

It uses that commit's names, so it does not run here. All is made by its commands and its engine.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PLACE = Path(tempfile.mkdtemp())
os.environ |= {"STUDIO_CACHE": str(PLACE / "cache"), "STUDIO_DEMO": str(PLACE / "none"), "STUDIO_WORKER_IDLE": "2"}

import page_helpers  # noqa: E402
import small_store  # noqa: E402
from dtrak_core.train_settings import ModelSettings, TrainSettings  # noqa: E402

from dtrak_core import answers, cli, datasets, engine, job_files, job_index, jobs  # noqa: E402

HERE = ["--dataset", "discs", "--checkpoint", "tiny"]
DRAWS = ["--timesteps", "2", "--proj-dim", "64"]
PICTURES = 32


def run(*words: str) -> str:
    """Run a command as from a terminal; return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(words) == 0, words
    return printed.getvalue()


def left(seed: int, state: str) -> None:
    """Leave a job as an engine does that was killed while the job was in this state."""
    job = jobs.SampleJob(checkpoint=digest, seeds=(seed,))
    key = jobs.key_of_job(job)
    with job_index.transaction() as index:
        values = job.model_dump(mode="json")
        job_index.put(index, job_index.Row(key, job.kind, f"Left {state}", values, 1, time.time()))
    if state != "queued":
        told = {"attempt": 1, "state": state, "done": 3, "total": 50, "unit": "sampling steps", "message": state}
        told |= {"seconds_left": None, "started": time.time(), "finished": None, "beat": time.time(), "artifacts": []}
        (job_files.folder() / key).mkdir(parents=True)
        job_files.write_json(job_files.folder() / key / job_files.STATUS, told)


drawn = small_store.images(PICTURES)
small_store.images = lambda: drawn
source = small_store.folder(PLACE / "discs")
run("dataset", "--name", "discs", "--source", str(source), "--resolution", "16")
stored = datasets.by_name("discs")
network = ModelSettings(channels=(4, 8), attention=(False, False), norm_groups=4)
settings = TrainSettings(dataset=stored.digest, model=network, epochs=2, batch_size=8, weights_dtype="float16")
for name in ("tiny", "again"):  # the second is a further name of the same weights
    answers.completed(jobs.TrainJob(train=settings, name=name), f"Train '{name}'")
run("sample", *HERE, "--seeds", "0-2")
run("attribute", *HERE, *DRAWS, "--sample", "seed:1", "--method", "d-trak", "--method", "trak", "--method", "nda")
run("attribute", *HERE, "--sample", "held-out:0", "--method", "raw-pixel-cosine")
run("attribute", *HERE, "--sample", str(source / "red" / "000.png"), "--method", "raw-pixel-cosine")
REMOVED = ["--target", "seed:1", "--method", "d-trak", "--remove", "4", "--random-draws", "1", "--name", "mine"]
run("counterfactual", *HERE, *REMOVED)
run("lds", *HERE, "--generated", "0-1", "--held-out", "1", "--subsets", "4", "--timesteps", "2", "--method", "d-trak")
run("cache", "limit", "3GB")
while engine.lives():
    time.sleep(0.5)
digest = jobs.job_of(next(job.key for job in jobs.listing() if job.kind == "sample")).checkpoint
left(6, "failed")
left(7, "running")
left(8, "queued")

# What the commands answer and the pages show, without another job.
engine.ensure = lambda: None
comparison = json.loads(run("counterfactual", *HERE, "--show", "mine", "--json"))["key"]
ASKED = [
    ["dataset", "list"],
    ["attribute", *HERE, *DRAWS, "--sample", "seed:1", "--method", "d-trak", "--method", "trak", "--method", "nda"],
    ["attribute", "--dataset", "discs", "--checkpoint", "again", *DRAWS, "--sample", "seed:1"],
    ["attribute", *HERE, "--sample", "held-out:0", "--method", "raw-pixel-cosine"],
    ["counterfactual", *HERE, "--show", "mine"],
    ["lds", *HERE, "--generated", "0-1", "--held-out", "1", "--subsets", "4", "--timesteps", "2", "--method", "d-trak"],
    ["cache", "limit"],
]
VIEW = {"checkpoint": "tiny", "sample": "seed:1"}
LINKS = [
    ["overview", VIEW],
    ["attribution", VIEW | {"methods": "trak,d-trak", "rank-d-trak": "20", "proponents": "4", "opponents": "2"}],
    ["attribution", VIEW | {"checkpoint": "again", "sample": "held-out:0", "methods": "raw-pixel-cosine"}],
    ["counterfactual", VIEW | {"comparison": comparison}],
    ["benchmark", VIEW],
    ["generate", VIEW],
    ["jobs", VIEW],
]
commands = [[words, json.loads(run(*words, "--json"))] for words in ASKED]
links = []
for page, parameters in LINKS:
    at = page_helpers.opened(page, **parameters)
    galleries = page_helpers.galleries(at)
    items = {
        name: [item["key"] for row in sent["rows"] for part in row["parts"] for item in part["items"]]
        for name, sent in galleries.items()
        if "rows" in sent
    }
    links.append({"page": page, "parameters": parameters, "address": dict(at.query_params), "items": items})
known = [[job.kind, job.key, job.state] for job in jobs.listing()]
answered = {"commands": commands, "links": links, "jobs": known}
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted((PLACE / "cache").rglob("*")):
        if path.is_file() and "scratch" not in path.parts:
            archive.write(path, path.relative_to(PLACE))
    archive.writestr("answered.json", json.dumps(answered))
print(json.dumps(links, indent=1), known)
