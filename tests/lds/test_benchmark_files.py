"""A benchmark is taken along and scores come back: the LDS they have here, and nothing of another benchmark."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.commands import cli
from dtrak_core.errors import DataError
from dtrak_core.lds import benchmark_files
from dtrak_core.methods import own_scores

pytestmark = pytest.mark.usefixtures("demo_cache")
Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Return a function that saves arrays as an .npz."""

    def save(**arrays: Any) -> Path:
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return save


def test_what_is_taken_along_judges_scores_elsewhere_as_here(tmp_path: Path, saved: Saved, capsys: Any) -> None:
    out = tmp_path / "benchmark.npz"
    assert cli.main(["benchmark", "export", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with np.load(out) as file:
        taken = dict(file)
    assert str(taken["benchmark"]) == told["benchmark"] == api.export_benchmark(out, "demo")
    assert taken["losses"].shape == (told["subsets"], told["train_seeds"], told["targets"])
    known = api.benchmark("demo", targets="held-out")
    places = [list(taken["targets"]).index(one.id) for one in known.targets]
    np.testing.assert_array_equal(taken["losses"][:, :, places], known.losses)
    np.testing.assert_array_equal(taken["target_images"][places[0]], known.targets[0].image)
    scores = np.random.default_rng(0).normal(size=(len(taken["targets"]), taken["masks"].shape[1]))
    elsewhere = api.lds(scores[places], taken["masks"], taken["losses"][:, :, places])
    file = str(saved(scores=scores, benchmark=taken["benchmark"]))
    answer = tmp_path / "answer.json"
    assert cli.main(["scores", "add", file, "--name", "mine", "--out", str(answer), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert json.loads(answer.read_bytes()) == here
    assert here["lds"]["held-out"]["lds"] == pytest.approx(elsewhere.value, abs=1e-12)
    assert here["method"].startswith("own:mine@")
    some = places[::-1][:8]  # fewer, in another order
    part = saved(scores=scores[some], benchmark=taken["benchmark"], targets=taken["targets"][some])
    found = api.add_scores_file("some", part, "demo")
    assert list(found.lds) == ["held-out"]
    np.testing.assert_array_equal(found.lds["held-out"].per_target, elsewhere.per_target[::-1][:8])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scores": None}, "holds no array 'scores', but benchmark"),
        ({"benchmark": None}, "does not say of which benchmark"),
        (
            {"benchmark": np.array("0123456789abcdef")},
            "are of the benchmark 0123456789abcdef, not of the one of",
        ),
        ({"targets": np.array(["seed:0", "seed:99999"])}, "'seed:99999' is no target of the benchmark"),
        ({"targets": np.array(["seed:0"])}, "scores have the shape (2, 832)"),
        ({"targets": np.array([], str), "scores": np.ones((0, 832))}, "'targets' name no target"),
        ({"targets": np.array(["seed:0", "seed:0"])}, "seed:0 is there more than once"),
        ({"scores": np.full((2, 832), np.nan)}, "scores[0, 0] is nan"),
        ({"scores": np.array([{}], object)}, "Array scores holds Python objects"),
    ],
)
def test_scores_that_are_not_of_it_are_refused(saved: Saved, changes: dict[str, Any], sentence: str) -> None:
    benchmark = api.checkpoint("demo")
    of = benchmark_files.of_checkpoint(api.dataset("openmoji-people"), benchmark)
    arrays: dict[str, Any] = {"scores": np.ones((2, 832)), "benchmark": np.array(of.digest)}
    arrays["targets"] = np.array(["seed:0", "held-out:1"])
    given = {name: value for name, value in (arrays | changes).items() if value is not None}
    with pytest.raises(DataError, match=r"^[^\n]+$") as error:
        benchmark_files.take_back("mine", saved(**given), of)
    assert sentence in str(error.value)
    assert own_scores.every() == []


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 cut off"])
def test_what_is_no_npz_is_refused(tmp_path: Path, data: bytes) -> None:
    of = benchmark_files.of_checkpoint(api.dataset("openmoji-people"), api.checkpoint("demo"))
    with pytest.raises(DataError, match=r"The file is no \.npz of plain arrays"):
        benchmark_files.take_back("mine", data, of)


def zipped(header: str) -> bytes:
    """Return an .npz of scores with such a header and eight bytes of values."""
    text, buffer = header.encode(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("scores.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(8))
    return buffer.getvalue()


@pytest.mark.parametrize("shape", ["(10**13,)", "(2**70,)", "(10000000000000,)", "(1180591620717411303424,)"])
def test_a_header_that_claims_too_much_is_refused(shape: str) -> None:
    of = benchmark_files.of_checkpoint(api.dataset("openmoji-people"), api.checkpoint("demo"))
    given = zipped(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n")
    with pytest.raises(DataError, match=r"Array scores (is shorter than its header says|has no readable header)"):
        benchmark_files.take_back("mine", given, of)


def test_a_file_with_a_password_is_refused() -> None:
    of = benchmark_files.of_checkpoint(api.dataset("openmoji-people"), api.checkpoint("demo"))
    data = bytearray(zipped("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}\n"))
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + flags] |= 1
    with pytest.raises(DataError, match=r"The file is no \.npz of plain arrays \(File 'scores.npy' is encrypted"):
        benchmark_files.take_back("mine", bytes(data), of)


def test_a_file_that_unpacks_beyond_the_limit_is_not_unpacked(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    of = benchmark_files.of_checkpoint(api.dataset("openmoji-people"), api.checkpoint("demo"))
    monkeypatch.setattr(benchmark_files, "LARGEST", 2**20)
    file = saved(scores=np.zeros((512, 832)), benchmark=np.array(of.digest))
    with pytest.raises(DataError, match=r"unpacks to|has .* bytes"):
        benchmark_files.take_back("mine", file, of)
