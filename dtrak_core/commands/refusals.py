"""What commands refuse before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dtrak_core.errors import SettingsError
from dtrak_core.methods.methods import Method


def damping(wanted: Sequence[Method], damping: float | None, rank_share: float | None) -> None:
    """Refuse a damping that scores would refuse."""
    if damping is not None and rank_share is not None:
        raise SettingsError(f"--damping {damping:g} and --rank-share {rank_share:g} were both given. Give one of them.")
    if damping is not None and not 0 < damping < math.inf:
        raise SettingsError(f"--damping is {damping:g}; give a number greater than 0.")
    if rank_share is not None and not 0 < rank_share < 1:
        raise SettingsError(f"--rank-share is {rank_share:g}; give a share between 0 and 1.")
    if (damping, rank_share) != (None, None) and not any(one.damped for one in wanted):
        labels = ", ".join(one.label for one in wanted)
        raise SettingsError(f"A damping was given, but {labels} has none. Leave --damping and --rank-share out.")


def feature_batch(pictures: int) -> None:
    """Refuse a number of pictures whose gradients cannot be computed at once."""
    if not 0 <= pictures <= 65_536:
        raise SettingsError(f"--feature-batch is {pictures:,}; give 1 to 65,536 pictures, or 0 to let it be chosen.")
