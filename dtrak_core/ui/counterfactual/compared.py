"""A comparison of removals on the page: verdict, pictures, then boxes over all targets and files to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import streamlit as st

from dtrak_core import store
from dtrak_core.counterfactual import comparison_document, comparison_figure, comparisons, taking_over
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import LATENT_L2, label
from dtrak_core.counterfactual.removals import IDENTITY
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import making
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import linked, panels, plotting
from dtrak_core.ui.counterfactual import comparison_charts, listed, matrix, pairing, verdict
from dtrak_core.ui.counterfactual.comparison_charts import Measure

MEDIANS = "medians-in-numbers"
_REMOVED = "Training pictures removed"
_CLICKED, _SIZE = "_clicked_points", "counterfactual-size"


def show(
    comparison: Comparison, dataset: Dataset, checkpoint: Checkpoint, late: Mapping[int, Comparison] | None = None
) -> None:
    """Show all of a comparison, finished or under way.

    Args:
        comparison: The comparison.
        dataset: Its dataset.
        checkpoint: Its original model.
        late: Comparisons that differ from it in when the retrained model takes over, by that, itself among them.
    """
    late = late or {}
    if said := comparisons.changed(comparison):
        st.warning(panels.plain(said), icon=":material/history:")
    if not comparison.entries:
        st.info("No training has finished yet. Results appear here one by one.")
        return
    if len(comparison.entries) < comparison.expected:
        st.caption(f"{len(comparison.entries)} of {comparison.expected} pictures so far.")
    size = _size(comparison)
    moved = any(entry.method != IDENTITY for entry in comparison.entries)
    if len(late) > 1:  # above all that it changes
        listed.slider(late)
    st.caption(comparisons.protocol(comparison, size, len(dataset.train.rows)))
    if moved:
        verdict.show(comparison, size)
    matrix.show(comparison, size)
    if moved:
        _distances(comparison, late, size)
        _exports(comparison, dataset, size)
        _provenance(comparison, dataset, checkpoint)
    pairing.show(comparison, dataset, size)


def _size(comparison: Comparison) -> int:
    sizes = sorted(comparison.settings.remove)
    if len(sizes) == 1:
        for asked in linked.said(_SIZE):
            if asked != str(sizes[0]):
                linked.wrong(_REMOVED, asked, str(sizes[0]))
        return sizes[0]
    if (named := pairing.size_named(comparison, st.session_state.get(_SIZE, sizes[-1]))) is not None:
        st.session_state[_SIZE] = named
    elif st.session_state.get(_SIZE) not in sizes:  # of another comparison
        st.session_state.pop(_SIZE, None)
    first = sizes[-1] if named is None else None  # Streamlit takes either a first value or the session's
    chosen = linked.bound(st.segmented_control, _REMOVED, sizes, default=first, key=_SIZE, required=True)
    return int(chosen or sizes[-1])


def _distances(comparison: Comparison, late: Mapping[int, Comparison], size: int) -> None:
    st.header("How far the pictures moved")
    st.caption(
        "Each point is one target, drawn again with its own seed by a model that was trained without the removed "
        "pictures; a click opens the pair. The noise floor is the same training set with another training seed."
    )
    places = [*st.columns(2), *st.columns(2)]  # two and two, so that those beside each other are of one height
    known = comparisons.measures(comparison)
    for place, measure in zip(places, [one for one in comparison_charts.AXES if one in known], strict=False):
        with place:
            _boxes(comparison, size, measure)
    places[3].caption(
        "The change of the loss, how much worse the retrained model denoises the original picture, is a mean over many "
        "noises: chance in the training moves it far less than it moves a drawn picture."
    )
    if len(late) > 1:
        _over_timesteps(late, size)
    if len(comparison.settings.remove) > 1:
        alt = "Median pixel l2 by number of training pictures removed, a line a method"
        plotting.show(comparison_charts.doses(comparison, "l2"), key="doses", alt=alt)
    _medians(comparison, size)


def _boxes(comparison: Comparison, size: int, measure: Measure) -> None:
    """Draw the boxes of one measure; a point that is newly clicked opens its pair."""
    clicked = plotting.show(
        comparison_charts.boxes(comparison, size, measure),
        key=f"boxes-{measure}",
        alt=comparison_charts.told(comparison, size, measure),
        on_select="rerun",
        selection_mode="points",
    )
    points = clicked["selection"]["points"] if clicked else []
    before = st.session_state.setdefault(_CLICKED, {})
    if points != before.get(measure, []):  # a point stays selected, but opens once
        before[measure] = points
        if points:
            pairing.ask(str(np.ravel(points[0].get("customdata", ""))[0]))


def _over_timesteps(late: Mapping[int, Comparison], size: int) -> None:
    found = taking_over.curves(late, size, "l2")
    told = ", ".join(f"{label(arm)} {points[0][1]:.2f} to {points[-1][1]:.2f}" for arm, points in found.items())
    alt = f"Median pixel l2 by the timestep at which the retrained model takes over, from the lowest on: {told}"
    plotting.show(comparison_charts.over_timesteps(found), key="over-timesteps", alt=alt)


def _medians(comparison: Comparison, size: int) -> None:
    """Draw all medians as a table, once it is asked for: what draws it is large."""
    place = st.expander("Medians in numbers", key=MEDIANS, on_change="rerun")
    if not place.open:
        return
    table = []
    for arm, row in comparisons.medians(comparison, size).items():
        ends = row["l2_interval"]
        table.append(
            {
                "removed": label(arm),
                "pixel l2": f"{row['l2']:.2f}",
                "95 % interval": "too few targets" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}",
                "cosine": f"{row['cosine']:.3f}",
                **({"latent l2": f"{row[LATENT_L2]:.2f}"} if LATENT_L2 in row else {}),
                "loss change": f"{row['loss_change']:+.4f}",
                "targets": row["n"],
            }
        )
    with place:
        st.dataframe(table, hide_index=True, alt=f"Medians over targets by what was removed, {size} pictures each")
        st.caption(
            "Medians over targets, several draws of one target averaged first. Intervals are bootstrapped over "
            f"targets, for these models. Cosine is of the {comparison.settings.encoder} embeddings. A larger l2 and a "
            "smaller cosine mean that the picture changed more, a larger loss change that the model knows it less."
        )


def _exports(comparison: Comparison, dataset: Dataset, size: int) -> None:
    name = comparison.name or comparison.key
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: comparison_document.to_csv(comparison, dataset),
            f"{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "JSON",
            lambda: json.dumps(comparison_document.document(comparison, dataset), indent=1).encode(),
            f"{name}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "PNG",
            lambda: comparison_figure.draw(comparison, size, dataset),
            f"{name}.png",
            "image/png",
            icon=":material/image:",
            on_click="ignore",
        )


def _provenance(comparison: Comparison, dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Show in small print what made a comparison; features of several kinds are told together, each value once."""
    settings, made = comparison.settings, store.find("comparisons", comparison.key)
    told: dict[str, list[str]] = {}
    for one in settings.features:
        for name, value in making.of_features(one).items():
            told.setdefault(name, []).append(value)
    panels.strip(
        {
            "Dataset": f"{dataset.name} ({dataset.digest})",
            "checkpoint": f"{checkpoint.name} ({checkpoint.digest})",
            "comparison": comparison.key,
            "sampler": f"{settings.sampler.upper()} {settings.sampling_steps}",
            "taking over at τ": f"{settings.take_over:,}",
            "encoder": settings.encoder,
            **{name: "; ".join(dict.fromkeys(values)) for name, values in told.items()},
            **(panels.made(made) if made is not None else {}),
        }
    )
