"""What each page is called, and what it is for: by the name of its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """A page's title and icon in the sidebar, and what it is for, in a sentence."""

    title: str
    icon: str
    help: str | None = None


ABOUT = {
    "overview": About(
        "Overview",
        ":material/home:",
        "One generated picture and the training pictures behind it; the dataset and the model at a glance.",
    ),
    "generate": About("Generate", ":material/draw:", "Draw new pictures, or train a model."),
    "attribution": About(
        "Attribution",
        ":material/account_tree:",
        "Choose a picture and see which training pictures helped or hindered it, method by method.",
    ),
    "credit": About(
        "Credit",
        ":material/groups:",
        "Whose training pictures made all that the model has drawn: shares, lifts, how sure, a credits sheet.",
    ),
    "copies": About(
        "Copies",
        ":material/content_copy:",
        "Which generated pictures are near-copies of training pictures, and how sure that is.",
    ),
    "doctor": About(
        "Doctor",
        ":material/stethoscope:",
        "Which training pictures are doubles, odd, least helpful or wrongly captioned, and what removing them does.",
    ),
    "map": About(
        "Map",
        ":material/scatter_plot:",
        "All training pictures laid out by likeness: see whose they are, which a picture was made of, choose some.",
    ),
    "counterfactual": About(
        "Counterfactual",
        ":material/compare:",
        "Train again without the pictures that a method names, and see how far the same seed's picture moves.",
    ),
    "benchmark": About(
        "Benchmark",
        ":material/leaderboard:",
        "How well each method predicts what training on other pictures does: the paper's tables and curves.",
    ),
    "jobs": About(
        "Jobs",
        ":material/list_alt:",
        "What is running, waiting or finished; what the cache holds, and how large it may grow.",
    ),
    "add_pictures": About("Add pictures", ":material/add_photo_alternate:"),
    "add_model": About("Add a model", ":material/add:"),
}
