"""The status of a job as the task that runs it writes it, which the app's host reads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtrak_core.jobs import job_files
from dtrak_core.progress import Pace

BEAT = 1.0  # seconds between two writes of an unchanged status
LOOK = 0.2  # seconds between two looks at what it tells of


@dataclass
class Status:
    """A job's status as it is written: its values, its pace, and when it was last written."""

    place: Path
    values: dict[str, Any]
    pace: Pace = field(default_factory=Pace)
    wrote: float = 0.0
    changed: bool = True

    def tell(self, answer: Mapping[str, Any]) -> None:
        """Take over how far the work is."""
        self.changed = True
        if answer["state"] == "running":
            self.values |= {name: answer[name] for name in ("state", "done", "total", "unit", "message")}
            self.values["started"] = self.values["started"] or time.time()
            self.pace.add(time.monotonic(), answer["done"], answer["total"], answer["unit"])
        elif answer["state"] == "stopping":
            self.values["message"] = answer["message"]

    def beat(self) -> None:
        """Write the status where it has changed, or has not been written for a while."""
        now = time.monotonic()
        if now - self.wrote > (LOOK if self.changed else BEAT):
            self.write({"seconds_left": self.pace.seconds_left(now)})
            self.wrote, self.changed = now, False

    def write(self, values: Mapping[str, Any]) -> None:
        """Write it; on a full disk say nothing: the job then reads as interrupted, and the engine writes its end."""
        self.values |= {**values, "beat": time.time()}
        with contextlib.suppress(OSError):
            job_files.write_json(self.place / job_files.STATUS, self.values)

    def end(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Write how the job ended, and return it."""
        done = {"done": self.values["total"]} if answer["state"] == "done" else {}
        self.write({**answer, **done, "seconds_left": None, "finished": time.time()})
        return self.values
