"""Methods in groups for people: what those of a group have in common, in one line. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

from dtrak_core.methods.methods import Method

GROUPS: Mapping[str, str] = {
    "Gradients, damped": "How output or loss depend on the model's weights, directions weighed by how common they are.",
    "Gradients, plain": "The same gradients compared as they are.",
    "Influence": "Influence functions, through the curvature of the loss.",
    "Likeness": "How alike the pictures are. The model plays no part: this is what the others have to beat.",
    "Your own scores": "Brought from elsewhere, shown as they were given.",
    "Fitted by retraining": "Fitted on the losses of other models that were trained on parts of the pictures.",
}
RETRAINED = "Fitted by retraining"


def group_of(method: Method) -> str:
    """Return the name of a method's group."""
    match method.family:
        case "gradient":
            return "Gradients, damped" if method.damped else "Gradients, plain"
        case "influence":
            return "Influence"
        case "own":
            return "Your own scores"
        case _:
            return "Likeness"


def grouped(methods: Mapping[str, Method]) -> dict[str, list[str]]:
    """Return the ids of methods by group, groups in their order, none empty."""
    found: dict[str, list[str]] = {name: [] for name in GROUPS}
    for name, method in methods.items():
        found[group_of(method)].append(name)
    return {name: members for name, members in found.items() if members}
