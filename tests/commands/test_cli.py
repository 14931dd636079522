"""The command line: contract of its answers, exit statuses, and the whole path with a real worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import emptied, large_folder
from PIL import Image

from dtrak_core import amounts, store
from dtrak_core.amounts import numbers_of, ranges_of
from dtrak_core.commands import cli, tables
from dtrak_core.commands.number_lists import indices_of
from dtrak_core.datasets import catalogue
from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import jobs, launch
from dtrak_core.methods import defaults, scores
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.settings import Sampled
from dtrak_core.settings import key_of

QUICK = ["--timesteps", "2", "--proj-dim", "64", "--sampling-steps", "4"]


@pytest.fixture
def home(cache: Path) -> Iterator[Path]:
    yield from emptied(cache)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a file of 24 small pictures of two labels."""
    images = np.random.default_rng(3).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", images=images, labels=np.array([0, 1] * 12))
    return tmp_path / "pictures.npz"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Run a command that must succeed; return its JSON answer."""
    capsys.readouterr()
    status = cli.main([*words, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused, with nothing on stdout; return the sentence."""
    capsys.readouterr()
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dtrak_core", *words]
    return subprocess.run(command, cwd=store.PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [[], ["attribute"], ["train"], ["jobs"], ["cache"], ["dataset"], ["dataset", "list"], ["cache", "delete"]]
)
def test_every_command_has_help(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    names = (cli.GROUPS[words[0]] if words in (["jobs"], ["cache"]) else cli.COMMANDS) if len(words) < 2 else {}
    if words in ([], ["jobs"], ["cache"]):
        assert all(name in shown for name in names)


def test_wrong_usage_is_told_from_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["attribute"], ["nonsense"], ["attribute", "--sample", "seed:3", "--proj-dim", "many"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2
    assert "--proj-dim" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seeds"), [("3", [3]), ("0-2,7", [0, 1, 2, 7]), ("4, 4,3-4", [4, 3])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert numbers_of(text, "seeds", 1000) == seeds
    assert numbers_of(ranges_of(seeds), "seeds", 1000) == sorted(seeds)
    assert ranges_of([7, 2, 1, 0]) == "0-2,7"


def test_a_number_that_is_named_twice_counts_once() -> None:
    assert numbers_of("0-4,0-4", "training pictures", 5) == [0, 1, 2, 3, 4]
    with pytest.raises(SettingsError, match="names more than 5 training pictures"):
        numbers_of("0-4,9", "training pictures", 5)
    with pytest.raises(SettingsError, match="names more than 5"):
        numbers_of("0-999999999", "training pictures", 5)


@pytest.mark.parametrize(
    "text", ["", "a", "3-1", "-1", "1,,2", "0-999999999", "0-1000", "²", "2147483648", "0-" + "9" * 5000]
)
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="seeds"):
        numbers_of(text, "seeds", 1000)


@pytest.mark.parametrize(
    ("only", "without", "expected"),
    [("", "", None), ("0-2", "", (0, 1, 2)), ("", "1,3", (0, 2, 4)), ("2-4,0", "3", (0, 2, 4))],
)
def test_training_indices(only: str, without: str, expected: tuple[int, ...] | None) -> None:
    assert indices_of(only, without, 5) == expected


@pytest.mark.parametrize("only", ["", "0-2"])
def test_training_indices_that_are_not_there_cannot_be_left_out(only: str) -> None:
    with pytest.raises(SettingsError, match="Training example 5 cannot be removed: there are 0 to 4"):
        indices_of(only, "3,5", 5)


def test_commands_leave_torch_out(cache: Path) -> None:
    code = (
        "import sys; from dtrak_core.commands import cli; status = cli.main(['cache', 'list', '--json']); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=store.PROJECT, capture_output=True, text=True, check=True)
    assert (json.loads(found.stdout), found.stderr.strip()) == ([], "False")


def test_the_whole_path(
    home: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = answer(capsys, "dataset", "--name", "mine", "--source", str(pictures), "--resolution", "16")
    assert (made["name"], sum(made["counts"].values())) == ("mine", 24)
    assert [row["name"] for row in answer(capsys, "dataset", "list")] == ["mine"]

    trained = answer(capsys, "train", "--name", "tiny", "--dataset", "mine", "--epochs", "1", "--batch-size", "4")
    assert [c["name"] for c in trained["checkpoints"]] == ["tiny", "tiny@25", "tiny@50", "tiny@75"]

    of = ["--dataset", "mine", "--checkpoint", "tiny"]
    out = tmp_path / "out"
    rows = answer(capsys, "sample", *of, "--seeds", "0-1", "--sampling-steps", "4", "--out", str(out))
    assert [row["target"] for row in rows] == ["seed:0", "seed:1"]
    assert Image.open(out / "tiny-seed-1.png").size == (16, 16)

    asked = ["attribute", *of, "--sample", "seed:3", "--method", "d-trak", "--top", "3", *QUICK]
    found = answer(capsys, *asked)
    assert capsys.readouterr().err == ""
    # The same as the core says, and its ranks are those of the scores themselves.
    dataset, checkpoint = catalogue.by_name("mine"), checkpoints.by_name("tiny")
    base = defaults.feature_settings_for(dataset.digest, checkpoint.digest, "squared-output")
    assert (base.num_timesteps, base.proj_dim) == (2, 64), "stored features are taken where none are named"
    target = targets.resolve(dataset, checkpoint.digest, "seed:3", Sampled(sampling_steps=4))
    values = scores.attribution_scores("d-trak", dataset, checkpoint.digest, target, base).values
    assert len(values) == made["counts"]["train"]
    for end, sign in (("proponents", 1), ("opponents", -1)):
        order = [int(i) for i in np.argsort(-sign * values, kind="stable")[:3] if sign * values[i] > 0]
        assert [entry["index"] for entry in found[end]] == order
        assert [entry["score"] for entry in found[end]] == values[order].tolist()
        assert [entry["rank"] for entry in found[end]] == list(range(1, len(order) + 1))
        assert [entry["name"] for entry in found[end]] == [dataset.train.rows[i]["name"] for i in order]
        assert all("contributor" in entry for entry in found[end])
        assert found["methods"]["d-trak"][end] == found[end]
    assert found["proponents"]

    kept = tmp_path / "kept"
    assert answer(capsys, *asked, "--out", str(kept)) == found
    listed = json.loads((kept / "scores.json").read_text())["methods"]["d-trak"]
    assert len(listed["proponents"]) + len(listed["opponents"]) == int((values != 0).sum())
    assert (kept / "scores.csv").read_text().count("\n") >= len(values)
    assert json.loads(Image.open(kept / "figure.png").text["provenance"])["target"]["id"] == "seed:3"

    # The same twice, from what is stored; and the same numbers computed anew with another batch size.
    before = len(jobs.listing())
    assert answer(capsys, *asked) == found
    assert len(jobs.listing()) == before, "what is stored needs no job"
    for kind in ("target-features", "kernels", "features"):
        assert answer(capsys, "cache", "delete", kind, "--yes")["bytes_freed"] > 0
    again = answer(capsys, *asked, "--feature-batch", "3")
    assert [e["index"] for e in again["proponents"]] == [e["index"] for e in found["proponents"]]
    assert [e["score"] for e in again["proponents"]] == pytest.approx(
        [e["score"] for e in found["proponents"]], rel=1e-4
    )

    # Several methods, and a picture of one's own.
    both = answer(capsys, *asked, "--method", "trak", "--method", "raw-pixel-dot")
    assert set(both["methods"]) == {"d-trak", "trak", "raw-pixel-dot"}
    assert "proponents" not in both
    Image.fromarray(np.asarray(dataset.train.images[5])).save(tmp_path / "own.png")
    own = answer(capsys, "attribute", *of, "--sample", str(tmp_path / "own.png"), "--method", "raw-pixel-cosine")
    assert own["target"]["id"].startswith("upload:")
    assert (own["proponents"][0]["index"], own["proponents"][0]["score"]) == (5, pytest.approx(1.0))

    for sample, what in ((str(tmp_path / "own.gif"), "is no file"), (str(tmp_path), "is a folder")):
        assert f"{what}. Give the path of a picture" in refusal(capsys, "attribute", *of, "--sample", sample)

    # The table for people says the same.
    assert cli.main(asked) == 0
    shown = capsys.readouterr().out
    assert "Proponents" in shown
    assert str(found["proponents"][0]["name"]) in shown

    refused = refusal(capsys, *asked, "--damping", "1", "--rank-share", "0.2")
    assert "both given" in refused


def test_refusals_are_sentences(home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--source" in refusal(capsys, "dataset", "--name", "mine")
    assert "not a kind" in refusal(capsys, "cache", "list", "--kind", "nonsense")
    assert "jobs list" in refusal(capsys, "jobs", "show", "0" * 16)
    assert "missing.npz" in refusal(capsys, "dataset", "--name", "mine", "--source", "missing.npz")
    answer(capsys, "dataset", "--name", "mine", "--source", str(pictures), "--resolution", "16")
    assert "There are: none yet" in refusal(capsys, "attribute", "--dataset", "mine", "--sample", "seed:3")
    assert "epochs" in refusal(capsys, "train", "--name", "x", "--dataset", "mine", "--epochs", "0")
    assert "name" in refusal(capsys, "train", "--name", "Not A Name", "--dataset", "mine")


def test_looks_after_jobs_and_cache(home: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["dataset", "--name", "mine", "--source", str(pictures), "--resolution", "16"]
    answer(capsys, *asked)
    (job,) = answer(capsys, "jobs", "list")
    assert (job["state"], job["kind"], job["done"]) == ("done", "dataset", 24)
    shown = answer(capsys, "jobs", "show", job["key"])
    assert shown["job"]["dataset"]["name"] == "mine"
    assert "attempt 1" in shown["log"]
    assert answer(capsys, "jobs", "cancel", job["key"]) == {"key": job["key"], "cancelled": False}

    (row,) = answer(capsys, "cache", "list")
    assert (row["kind"], row["name"]) == ("datasets", "mine")
    assert answer(capsys, "cache", "verify") == []
    path = home / "datasets" / row["key"] / "train.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert cli.main(["cache", "verify", "--json"]) == 1
    (damaged,) = json.loads(capsys.readouterr().out)
    assert damaged["key"] == row["key"]
    (aside,) = answer(capsys, "cache", "list")
    assert (aside["kind"], aside["name"], aside["key"]) == ("datasets", "damaged", f"{row['key']}.damaged")
    resumed = answer(capsys, "jobs", "resume", job["key"])
    assert resumed["artifacts"] == [f"datasets/{row['key']}"]
    assert answer(capsys, "jobs", "show", job["key"])["attempt"] == 2

    assert answer(capsys, "jobs", "forget", job["key"]) == {"key": job["key"], "forgotten": True}
    assert answer(capsys, "jobs", "list") == []
    assert "jobs list" in refusal(capsys, "jobs", "forget", job["key"])

    assert "Nothing was deleted" in refusal_without_answer(capsys, "cache", "delete", "datasets")
    assert answer(capsys, "cache", "delete", "datasets", "--key", row["key"], "--yes")["bytes_freed"] > row["bytes"]


def refusal_without_answer(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """As `refusal`, where the question is asked of an empty stdin."""
    with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
        patch.setattr("sys.stdin", nothing)
        return refusal(capsys, *words)


def test_nothing_that_a_job_needs_is_deleted(
    home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = answer(capsys, "dataset", "--name", "mine", "--source", str(pictures), "--resolution", "16")
    monkeypatch.setattr(launch, "ensure", lambda: None)
    (home / "jobs" / "END").touch()  # so that no worker takes the job meanwhile
    settings = FeatureSettings(dataset=made["digest"], checkpoint="b" * 16)
    key, _ = jobs.submit(jobs.AttributeJob(features=(settings,)), "Attribute")
    said = refusal(capsys, "cache", "delete", "datasets", "--yes")
    assert "Attribute" in said
    assert key in said
    assert [row["name"] for row in answer(capsys, "dataset", "list")] == ["mine"]


def test_ctrl_c_leaves_the_job_going(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    large_folder(folder, 200)  # so that the job cannot end before the signal arrives
    command = [sys.executable, "-m", "dtrak_core", "dataset", "--name", "large", "--source", str(folder)]

    def in_the_background() -> None:  # as `nohup make test &` and a script's `command &` start it
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    asking = subprocess.Popen(
        command,
        cwd=store.PROJECT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=in_the_background,
    )
    begin = time.monotonic()
    while not any(job.state == "running" for job in jobs.listing()):
        assert time.monotonic() - begin < 60  # a busy machine starts an engine slowly
        time.sleep(0.02)
    asking.send_signal(signal.SIGINT)
    out, err = asking.communicate(timeout=30)
    assert (asking.returncode, out) == (130, "")
    (job,) = jobs.listing()
    assert f"jobs cancel {job.key}" in err
    assert jobs.wait(job.key).state == "done"


def test_defaults_prefer_what_is_stored(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = "a" * 16, "b" * 16
    assert defaults.feature_settings_for(a, b, "loss") == FeatureSettings(dataset=a, checkpoint=b, model_output="loss")

    def publish(**values: Any) -> FeatureSettings:
        settings = FeatureSettings(dataset=a, checkpoint=b, **values)
        store.partial("features", key_of("features", settings))
        store.publish("features", key_of("features", settings), settings)
        return settings

    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "shipped"))
    shipped = publish(proj_dim=128, num_timesteps=5)
    monkeypatch.setenv("STUDIO_CACHE", str(cache))
    own = publish(proj_dim=256)
    publish(proj_dim=512, model_output="loss")
    assert defaults.feature_settings_for(a, b, "squared-output") == own
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "shipped"))
    assert defaults.feature_settings_for(a, b, "squared-output") == shipped
    assert defaults.feature_settings_for(b, b, "loss").proj_dim == FeatureSettings.model_fields["proj_dim"].default
    assert "ships" in refusal(capsys, "cache", "delete", "features", "--key", key_of("features", shipped), "--yes")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (834, "834 B"), (9_300, "9.3 kB"), (17_300_000, "17.3 MB"), (4.2e9, "4.2 GB")]
)
def test_sizes(number: float, text: str) -> None:
    assert amounts.size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (150, "2 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert amounts.duration(seconds) == text


def test_tables_align() -> None:
    rows = [{"name": "a", "count": 5}, {"name": "longer", "count": 1200}]
    assert tables.table(rows, ("name", "count")).splitlines() == [
        "name    count",
        "------  -----",
        "a           5",
        "longer  1,200",
    ]
    assert tables.table([], ("name",)) == ""


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["app", "--port", port]) == 1
    assert capsys.readouterr().err == f"--port is {port}; ports are numbers from 1 to 65535.\n"


def test_the_cache_is_said_to_be_where_it_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "list"]) == 0
    assert capsys.readouterr().out == f"0 B in 0 artifacts, in {cache}\n"
