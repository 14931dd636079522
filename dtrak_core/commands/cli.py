"""The command line: every page's work without the browser.

Each command asks for the jobs it needs, follows them on stderr, and answers on stdout: a table, or
JSON with --json. Exit status: 0 answered, 1 refused or failed (the reason stands on stderr), 2 wrong
usage, 130 when following was stopped with Ctrl-C (the job goes on). No torch is imported here.

--engine ADDRESS, with any command, lets a Dask cluster do the work, as STUDIO_ENGINE does.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from dtrak_core import program, store
from dtrak_core.commands import (
    copying,
    credits,
    doctoring,
    finding,
    known,
    make,
    mapping,
    measuring,
    method_list,
    removing,
    serving,
    tables,
    taking_along,
    taking_in,
    upkeep,
)
from dtrak_core.errors import SettingsError, StudioError
from dtrak_core.files import expanded


def demo() -> None:
    """Build the demo that ships with the project, in cache/demo."""
    _in_checkout("demo")
    from dtrak_core.demo.portraits import build

    build()


def demo_schools() -> None:
    """Build the text-to-image demo that ships with the project, into cache/demo."""
    _in_checkout("demo-schools")
    from dtrak_core.demo.schools import build

    build()


def _in_checkout(command: str) -> None:
    """Refuse to build what ships in a folder of installed packages."""
    if not program.CHECKOUT:
        raise SettingsError(
            f"This is an installed copy, which keeps the demo that it came with. Call 'python -m dtrak_core {command}' "
            "in a checkout of the project."
        )


def jobs() -> None:
    """List jobs, show, cancel, resume or forget one: jobs list|show|cancel|resume|forget."""


def cache() -> None:
    """List, delete, limit or verify what is stored: cache list|delete|limit|verify."""


def benchmark() -> None:
    """Take along what attributions of a model are judged by: benchmark export."""


def scores() -> None:
    """Bring scores of your own, which become a method: scores add."""


COMMANDS: dict[str, Callable[..., None]] = {
    "app": serving.app,
    "dataset": make.dataset,
    "train": make.train,
    "look": taking_in.look,
    "import-checkpoint": taking_in.import_checkpoint,
    "base": taking_in.base,
    "sample": make.sample,
    "attribute": make.attribute,
    "credit": credits.credit,
    "copies": copying.copies,
    "doctor": doctoring.doctor,
    "map": mapping.map_pictures,
    "find-work": finding.find_work,
    "methods": method_list.methods,
    "counterfactual": removing.counterfactual,
    "lds": measuring.lds,
    "known": known.known,
    "benchmark": benchmark,
    "scores": scores,
    "jobs": jobs,
    "cache": cache,
    "demo": demo,
    "demo-schools": demo_schools,
    "engine": upkeep.engine_show,
}
GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "dataset": {"list": make.dataset_list},
    "benchmark": {"export": taking_along.benchmark_export},
    "scores": {"add": taking_along.scores_add},
    "jobs": {
        "list": upkeep.jobs_list,
        "show": upkeep.jobs_show,
        "cancel": upkeep.jobs_cancel,
        "resume": upkeep.jobs_resume,
        "forget": upkeep.jobs_forget,
    },
    "cache": {
        "list": upkeep.cache_list,
        "delete": upkeep.cache_delete,
        "limit": upkeep.cache_limit,
        "verify": upkeep.cache_verify,
    },
}
REGISTRY = ConstructorRegistry()
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction)


def _path(asked: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Read every path with a home folder in place of its `~`, which shells leave in `--out=~/file`."""
    if asked.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: expanded(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


REGISTRY.primitive_rule(_path)


def _engine_chosen(words: list[str]) -> list[str]:
    """Take `--engine ADDRESS`, which every command has, out of the words and into STUDIO_ENGINE."""
    for i, word in enumerate(words):
        if word == "--engine" and i + 1 < len(words):
            os.environ["STUDIO_ENGINE"] = words[i + 1]
            return words[:i] + words[i + 2 :]
        if word.startswith("--engine="):
            os.environ["STUDIO_ENGINE"] = word.removeprefix("--engine=")
            return words[:i] + words[i + 1 :]
    return words


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    words = _engine_chosen(list(sys.argv[1:] if args is None else args))
    group = GROUPS.get(words[0], {}) if words else {}
    # The others are nothing without their second word; `dataset` alone prepares one.
    nested = bool(group) and (words[0] not in ("dataset",) or words[1:2] == ["list"])
    prog = program.command(words[0] if nested else "")
    try:
        with REGISTRY:
            tyro.extras.subcommand_cli_from_dict(
                group if nested else COMMANDS,
                prog=prog,
                description=__doc__ if not nested else None,
                args=words[1:] if nested else words,
                config=CONFIG,
            )
        sys.stdout.flush()
    except StudioError as error:
        print(*map(tables.printable, str(error).splitlines()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the answer has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, sqlite3.OperationalError) as error:
        if not (reason := store.refusal(error) or _refused(error)):
            raise
        print(reason, file=sys.stderr)
        return 1
    return 0


def _refused(error: Exception) -> str:
    """Say that a file outside the cache may not be used, nothing where the error is another one."""
    if not isinstance(error, OSError) or error.filename is None or error.errno not in (*store.REFUSED, errno.EISDIR):
        return ""
    return f"'{os.fsdecode(error.filename)}' cannot be used: {error.strerror}. Give a file or folder that you may use."
