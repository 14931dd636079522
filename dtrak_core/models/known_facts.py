"""What is known of a target: a picture's own facts, or those that the pictures of a prompt share. No torch here."""

from __future__ import annotations

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import prompt_of
from dtrak_core.models import class_names
from dtrak_core.models.targets import Target

FACTS = ("family", "label", "contributor")


def of_target(dataset: Dataset, target: Target) -> dict[str, str]:
    """Return what is known of a target by name; of one that was drawn from a prompt, what the prompt's pictures share.

    Of a held-out picture its number is known too.
    """
    if "label" not in target.row:
        return of_prompt(dataset, target.prompt)
    known = {fact: str(target.row.get(fact, "")) for fact in FACTS}
    return known | ({"held-out": target.id.partition(":")[2]} if target.id.startswith("held-out:") else {})


def of_prompt(dataset: Dataset, prompt: str) -> dict[str, str]:
    """Return the facts in which all pictures with a caption agree, or of a class, training and held-out ones."""
    if not prompt:
        return {}
    every = (*dataset.train.rows, *dataset.held_out.rows)
    classes = {label for label in {str(row["label"]) for row in every} if class_names.number((label,), prompt) == 0}
    meant = [row for row in every if _plain(prompt_of(row)) == _plain(prompt) or str(row["label"]) in classes]
    agreed = {fact: {str(row.get(fact, "")) for row in meant} for fact in FACTS}
    return {fact: values.pop() for fact, values in agreed.items() if len(values) == 1}


def _plain(words: str) -> str:
    """Return words as they are compared, without capitals and outer spaces, as text encoders read them."""
    return words.strip().casefold()
