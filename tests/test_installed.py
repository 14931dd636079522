"""What `pip install .` gives: the package, typed, and `dtrak`, which serves the app and answers from any folder."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from tornado.websocket import websocket_connect

PROJECT = Path(__file__).resolve().parent.parent
PLACES = {
    "dtrak_core": "dtrak_core",
    "pages": "dtrak_core/app/pages",
    "cache/demo": "dtrak_core/app/cache/demo",
    ".streamlit": "dtrak_core/app/.streamlit",
}


@dataclass(frozen=True)
class Installed:
    """The wheel, an environment in which it is installed, and an empty folder to be in, which is the user's home."""

    wheel: Path
    programs: Path
    folder: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment."""
        return subprocess.run(self.line(words), cwd=self.folder, env=self.env, capture_output=True, text=True)

    def line(self, words: Sequence[str]) -> list[str]:
        return [str(self.programs / words[0]), *words[1:]]

    @property
    def env(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XDG_CACHE_HOME")}
        kept = {name: value for name, value in ours.items() if not name.startswith("STUDIO_")}
        return kept | {"HOME": str(self.folder), "STUDIO_WORKER_IDLE": "5"}


@pytest.fixture(scope="module")
def dtrak(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the program, built and installed without a network: the packages are those that run this test."""
    place = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "env", with_pip=False, symlinks=True)
    programs, folder = place / "env" / "bin", place / "home"
    folder.mkdir()
    own = sysconfig.get_path("purelib", vars={"base": str(place / "env")})
    here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(own) / "beside.pth").write_text("\n".join(here))
    install = ["--python", str(programs / "python"), "install", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True, capture_output=True)
    return Installed(wheel, programs, folder)


def test_the_wheel_holds_every_file_and_asks_for_what_is_required(dtrak: Installed) -> None:
    with zipfile.ZipFile(dtrak.wheel) as archive:
        held = set(archive.namelist())
        (facts,) = (archive.read(name).decode() for name in held if name.endswith("METADATA"))
    files = {
        f"{there}/{path.relative_to(PROJECT / here)}"
        for here, there in PLACES.items()
        for path in (PROJECT / here).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 300
    assert {"dtrak_core/py.typed", "dtrak_core/ui/gallery.js", "dtrak_core/app/pages/overview.py"} <= files
    assert files - held == set()
    lines = [line.split("#")[0].strip() for line in (PROJECT / "requirements.txt").read_text().splitlines()]
    assert requirements(re.findall(r"^Requires-Dist: (.*)$", facts, re.M)) == requirements(filter(None, lines))


def requirements(lines: Iterable[str]) -> dict[str, SpecifierSet]:
    return {canonicalize_name(one.name): one.specifier for one in map(Requirement, lines)}


def test_the_package_is_the_installed_one_and_typed(dtrak: Installed) -> None:
    done = dtrak("python", "-c", "import dtrak_core; print(dtrak_core.__file__)")
    package = Path(done.stdout.strip()).parent
    assert package.is_relative_to(dtrak.programs.parent)
    assert (package / "py.typed").is_file()


def test_commands_answer_from_any_folder_with_the_demo(dtrak: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = dtrak("dtrak", "attribute", "--sample", "seed:3", "--top", "1")
    assert (answered.returncode, answered.stderr) == (0, "")
    assert "seed:3 of checkpoint 'demo', dataset 'openmoji-people'" in answered.stdout
    monkeypatch.setenv("HOME", str(dtrak.folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    place = platformdirs.user_cache_path("dtrak-studio", appauthor=False)
    assert place.is_relative_to(dtrak.folder)
    assert dtrak("dtrak", "cache", "list").stdout.rstrip().endswith(f"artifacts, in {place}")


def test_what_is_printed_and_refused_fits_an_installed_copy(dtrak: Installed) -> None:
    refused = dtrak("dtrak", "jobs", "show", "none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.endswith(f"List the jobs with '{dtrak.programs}/dtrak jobs list'.\n")
    refused = dtrak("dtrak", "demo")
    assert refused.returncode == 1
    assert refused.stderr.startswith("This is an installed copy")


def test_jobs_run_from_any_folder_and_keep_their_work_in_the_users_cache(dtrak: Installed) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    np.savez(dtrak.folder / "mine.npz", images=pictures, labels=np.arange(12) % 2)
    done = dtrak("dtrak", "dataset", "--source", "mine.npz", "--name", "mine", "--resolution", "8")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mine +8 ", dtrak("dtrak", "dataset", "list").stdout, re.M)
    assert sorted(path.name for path in dtrak.folder.iterdir() if path.name[0] != ".") in (
        ["mine.npz"],
        ["Library", "mine.npz"],
    )


def test_the_app_is_served_from_any_folder(dtrak: Installed) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = dtrak.line(["dtrak", "app", "--port", str(port)])
    served = subprocess.Popen(line, cwd=dtrak.folder, env=dtrak.env, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", served)
        with ThreadPoolExecutor(1) as thread:  # a browser's loop may run in this one
            shown = thread.submit(asyncio.run, first_answer(f"ws://127.0.0.1:{port}/_stcore/stream")).result(60)
        said = " ".join(str(message) for message in shown)
        assert "openmoji-people" in said
        assert not [message for message in shown if message.delta.new_element.HasField("exception")]
        assert shown[-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(20)


def wait_for(address: str, served: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + 60
    while time.monotonic() < until and served.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                assert answer.read() == b"ok"
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    pytest.fail(f"nothing is served; the program's status is {served.poll()}")


async def first_answer(address: str) -> list[ForwardMsg]:
    """Ask for the start page as a browser does; return what comes until the page is whole."""
    connection = await websocket_connect(address)
    asked = BackMsg()
    asked.rerun_script.query_string = ""
    await connection.write_message(asked.SerializeToString(), binary=True)
    found: list[ForwardMsg] = []
    while not found or found[-1].WhichOneof("type") != "script_finished":
        data = await connection.read_message()
        assert isinstance(data, bytes), "the server hung up"
        found.append(ForwardMsg.FromString(data))
    connection.close()
    return found
