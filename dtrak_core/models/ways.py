"""How a model draws where only some of it is said: one rule, so that library and command line draw one picture.

No torch here.
"""

from __future__ import annotations

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.models import class_names, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import LONGEST_TYPED, Sampled


def completed(dataset: Dataset, checkpoint: Checkpoint, sampled: Sampled) -> Sampled:
    """Return how pictures are drawn: a model with prompts takes those of its stored pictures in turn by default.

    Where it has drawn none yet, it takes captions from all over the training set, whatever their length, or classes.
    Guidance that is not said is that of its stored pictures, or of its base's own pipeline; steps are the pipeline's.

    Raises:
        SettingsError: If a prompt was typed that is too long, or that the model does not take, or it cannot be guided.
    """
    if sampled.prompts and not checkpoint.prompted:
        raise SettingsError(f"'{checkpoint.name}' draws from noise alone and takes no prompts. Leave prompts out.")
    if not checkpoint.prompted:
        return sampled
    for prompt in sampled.prompts:
        if checkpoint.classes and class_names.number(checkpoint.classes, prompt) is None:
            raise SettingsError(
                f"'{checkpoint.name}' draws no '{prompt}'. It knows: {class_names.listed(checkpoint.classes)}."
            )
        if len(prompt) > LONGEST_TYPED and prompt not in (*dataset.train.prompts, *dataset.held_out.prompts):
            raise SettingsError(
                f"The prompt '{prompt[:40]}…' has {len(prompt):,} characters; only captions of the dataset may have "
                f"more than {LONGEST_TYPED}. Shorten it."
            )
    known = targets.way_of(checkpoint, dataset.train)
    own = targets.own_way(checkpoint.digest) if sampled.prompts and checkpoint.base else known
    sampled = sampled.with_unsaid(own)
    if sampled.guidance != 1 and not checkpoint.guided:
        raise SettingsError(
            f"'{checkpoint.name}' cannot be guided: it was never trained without a class. Leave guidance out."
        )
    return sampled.model_copy(update={"prompts": sampled.prompts or known.prompts})
