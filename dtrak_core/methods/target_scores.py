"""Methods that keep no features: one artifact holds all scores of one target. Torch only to compute.

patches      how much of the target's patches a picture's patches explain (patches.py)
influence    influence functions without projection, by EK-FAC (ekfac.py)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core import store
from dtrak_core.errors import NotFoundError
from dtrak_core.methods import patches
from dtrak_core.methods.plans import Plan, Scores, scored
from dtrak_core.methods.settings import InfluenceSettings, PatchSettings, influence_gradients, influence_settings
from dtrak_core.models import checkpoints
from dtrak_core.progress import Progress
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact


def patch_parts(plan: Plan) -> list[tuple[str, Settings]]:
    """Return kind and settings of the artifact of each target's scores by patches."""
    return [
        ("patches", PatchSettings(dataset=plan.dataset.digest, target=target.id, pixels=target.pixels))
        for target in plan.targets
    ]


def influence_parts(plan: Plan) -> list[tuple[str, Settings]]:
    """Return kind and settings of the artifact of each target's scores by EK-FAC."""
    return [("ekfac", one) for one in _influences(plan)]


def _influences(plan: Plan) -> list[InfluenceSettings]:
    where = (plan.dataset.digest, plan.checkpoint, *checkpoints.process_of(checkpoints.by_digest(plan.checkpoint)))
    return [influence_settings(*where, one.id, one.pixels) for one in plan.targets]


def patch_score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return a plan's stored scores by patches."""
    return _stored(plan, patch_parts(plan))


def influence_score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return a plan's stored scores by EK-FAC."""
    return _stored(plan, influence_parts(plan))


def _stored(plan: Plan, wanted: Sequence[tuple[str, Settings]]) -> Scores:
    rows = [store.find(kind, key_of(kind, settings)) for kind, settings in wanted]
    if None in rows:
        missing = plan.targets[rows.index(None)].id
        raise NotFoundError(f"{plan.method.label}: {missing} has no stored scores. Compute the attribution first.")
    return scored(plan, np.stack([np.asarray(one.array("scores.npy"), np.float64) for one in rows if one]), {})


def patch_compute(plan: Plan, on_progress: Progress) -> list[Artifact]:
    """Return the artifacts of the targets' scores by patches, computing those that are not stored."""
    return patches.compute(plan.dataset, plan.targets, on_progress)


def influence_compute(plan: Plan, on_progress: Progress) -> list[Artifact]:
    """Return the artifacts of the targets' scores by EK-FAC, computing those that are not stored."""
    from dtrak_core.methods import ekfac
    from dtrak_core.models import networks

    denoiser = networks.load_denoiser(checkpoints.by_digest(plan.checkpoint))
    return ekfac.compute(plan.dataset, plan.checkpoint, denoiser, plan.targets, on_progress)


def influence_spent(plan: Plan) -> tuple[int, float]:
    """Return the gradients that EK-FAC took for all targets together; its seconds are not kept."""
    wanted = _influences(plan)
    parameters = int(checkpoints.by_digest(plan.checkpoint).run.manifest["parameters"])
    pictures = len(plan.dataset.train.rows)
    return influence_gradients(pictures, len(wanted), wanted[0].num_timesteps, parameters), 0.0
