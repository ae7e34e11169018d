"""Numbers one can trust: masks, presence and saliency against the truth of a manifest, with intervals that
respect patients, systems compared in pairs, and a report. `evaluate` does it all, `write_report` writes it;
the metrics and statistics can be used by themselves. Nothing here needs a model.
"""

from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.evaluation import Evaluation, SystemEvaluation
from lexiseg.evaluation.metrics import EmptyRule, score_mask
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap

__all__ = [
    "Bootstrap",
    "EmptyRule",
    "Evaluation",
    "EvaluationSettings",
    "SystemEvaluation",
    "evaluate",
    "score_mask",
]
