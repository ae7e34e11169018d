"""One scan at a time: its truth, a system's prediction of the same id, and what that scores."""

from lexiseg.evaluation.cases.answers import Answer, read_answers
from lexiseg.evaluation.cases.case import Case, Status
from lexiseg.evaluation.cases.folder import PredictionFolder, system_names
from lexiseg.evaluation.cases.prediction import Prediction, read_prediction
from lexiseg.evaluation.cases.score import score_case
from lexiseg.evaluation.cases.truth import Truth, read_truth

__all__ = [
    "Answer",
    "Case",
    "Prediction",
    "PredictionFolder",
    "Status",
    "Truth",
    "read_answers",
    "read_prediction",
    "read_truth",
    "score_case",
    "system_names",
]
