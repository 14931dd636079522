"""Numbers as notebooks give them: numpy's are numbers too, and what is none is refused in a sentence at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.api import doctoring, removing
from dtrak_core.errors import SettingsError
from dtrak_core.jobs.job_kinds import CounterfactualJob
from dtrak_core.jobs.question_jobs import TrialJob
from dtrak_core.methods import doctor
from dtrak_core.models.checkpoints import Checkpoint

Asked = Callable[..., Any]
OF = ("discs", "small")


class Asking(Exception):
    """A job was asked for, so that all that was given was taken."""


@pytest.fixture(autouse=True)
def asks_for_a_job(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop at the job, and before any check."""

    def asked(job: Any, *rest: Any) -> None:
        raise Asking(job)

    def computed(*given: Any) -> None:
        raise AssertionError("computed before all is checked")

    for module in (removing, doctoring):
        monkeypatch.setattr(module, "done", asked)
    monkeypatch.setattr(doctor, "find", computed)


def compared(**told: Any) -> Any:
    return api.counterfactual("x", *OF, **{"targets": [3], "methods": "raw-pixel-cosine"} | told)


def scores_of(**told: Any) -> Any:
    return api.known_answers(np.ones((1, 24)), "discs", **told)


@pytest.mark.parametrize(
    ("ask", "told", "sentence"),
    [
        (compared, {"targets": True}, "True is not a target"),
        (compared, {"targets": 3.0}, "3.0 is not a target"),
        (compared, {"targets": np.zeros((16, 16, 3), np.uint8)}, "A picture of one's own was not generated"),
        (compared, {"remove": 0.2}, "remove is 0.2; give a whole number, or several in a list"),
        (compared, {"remove": [5, "6"]}, "remove is '6'; give a whole number"),
        (compared, {"remove": "20 %"}, "remove is '20 %'; give a whole number"),
        (api.trial, {"removed": [5.0]}, "removed is 5.0; give a whole number"),
        (api.trial, {"removed": [True]}, "removed is True; give a whole number"),
        (api.trial, {"removed": None}, "removed is None; give a whole number"),
        (api.trial, {"removed": [-1]}, "not learned from training picture -1"),
        (
            api.find_work,
            {"work": [np.zeros((16, 16, 3), np.uint8)], "pictures": 0.5},
            "no training picture 0.5",
        ),
        (api.doctor, {"checks": "duplicates", "top": 0}, "top is 0; give at least 1"),
        (api.doctor, {"checks": "duplicates", "top": "3"}, "top is '3'; give a whole number"),
        (compared, {"methods": 5}, "methods is 5; give a name, or several in a list"),
        (compared, {"methods": [None]}, "methods is None; give a name"),
        (api.doctor, {"checks": 5}, "checks is 5; give a name"),
        (api.explain, {"targets": ["held-out:0"], "damping": "1"}, "damping is '1'; give a number greater than 0"),
        (api.explain, {"targets": ["held-out:0"], "rank_share": True}, "rank_share is True; give a share between"),
        (scores_of, {"targets": [0]}, "0 is no target. Give those of an explanation"),
        (scores_of, {"targets": 0}, "0 is no target. Give those of an explanation"),
    ],
)
def test_what_is_no_number_is_refused(ask: Asked, told: dict[str, Any], sentence: str) -> None:
    of = OF if ask in (api.trial, api.find_work, api.doctor, api.explain) else ()
    with pytest.raises(SettingsError) as refused:
        ask(*of, **told)
    assert sentence in str(refused.value)


def test_a_number_is_one_alone_or_of_numpy() -> None:
    for targets, remove in ((np.int64(3), np.int64(5)), ([3], [5]), (np.array([3]), np.array([5])), ("seed:3", 5)):
        with pytest.raises(Asking) as asked:
            compared(targets=targets, remove=remove)
        job = asked.value.args[0]
        assert isinstance(job, CounterfactualJob)
        assert (job.settings.targets, job.settings.remove) == (("seed:3",), (5,))
    for removed in (5, np.int64(5), [5], np.array([5])):
        with pytest.raises(Asking) as asked:
            api.trial(*OF, removed)
        job = asked.value.args[0]
        assert isinstance(job, TrialJob)
        assert job.settings.removed == (5,)
