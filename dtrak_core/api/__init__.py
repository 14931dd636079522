"""The library: everything that the pages and the command line do, for notebooks and programs.

    from dtrak_core import api

    pictures = api.dataset("openmoji-people")
    answer = api.explain(pictures, "demo", targets=[0, 1], method="d-trak")
    answer.scores, answer.ranks                     # (M, N), by training index
    api.credit(pictures, "demo").sentences          # whose pictures made all that it has drawn
    api.copies(pictures, "demo").sentences          # whether any of them copies a training picture
    api.doctor(pictures, "demo").sentences          # which training pictures are suspicious
    api.picture_map(pictures).xy                    # the training pictures laid out by likeness
    api.benchmark("demo").lds(scores)               # how well scores predict retraining

What is computed is stored in the cache of the app (STUDIO_CACHE) and found again by all of them. Errors are of
`dtrak_core.errors`, each one sentence.
"""

from dtrak_core.api.adding import add_scores, add_scores_file, export_benchmark
from dtrak_core.api.copying import NearCopies, copies
from dtrak_core.api.credits import Credits, credit
from dtrak_core.api.doctoring import Diagnosis, doctor, trial
from dtrak_core.api.explaining import Explanation, explain
from dtrak_core.api.finding import FoundWorks, find_work
from dtrak_core.api.inputs import checkpoint, dataset
from dtrak_core.api.judging import Benchmark, Lds, benchmark, lds
from dtrak_core.api.knowing import KnownAnswer, known_answers
from dtrak_core.api.mapping import PictureMap, picture_map
from dtrak_core.api.removing import Removals, counterfactual
from dtrak_core.models.settings import Sampled

__all__ = [
    "Benchmark",
    "Credits",
    "Diagnosis",
    "Explanation",
    "FoundWorks",
    "KnownAnswer",
    "Lds",
    "NearCopies",
    "PictureMap",
    "Removals",
    "Sampled",
    "add_scores",
    "add_scores_file",
    "benchmark",
    "checkpoint",
    "copies",
    "counterfactual",
    "credit",
    "dataset",
    "doctor",
    "explain",
    "export_benchmark",
    "find_work",
    "known_answers",
    "lds",
    "picture_map",
    "trial",
]
