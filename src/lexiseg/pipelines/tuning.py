"""Settings chosen without labels: how sure the pipeline itself is, over a few scans, of what it retrieves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import Preset
from lexiseg.pipelines.salip import RegionEvidence, Salip
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.retrieval import Matches
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.values.overlap import overlap_coefficient
from lexiseg.values.scans import Plane, Scan

CRITERION = "mean over scans and phrases of retrieval margin x predicted IoU x stability"
LOOK_CRITERION = "mean over scans and phrases of presence x the Dice that the map expects of itself"
LOOKS: Sequence[Mapping[str, Mapping[str, Any]]] = (
    {},
    {"look": {"invert": True}},
    {"look": {"sharpen": 6.0}},
)
"""What is tried of scans that may come from elsewhere: as they are, as negatives, and sharpened.

Not gammas: models hardly mind them, and which one they are surest of is chance. Nor several strengths: of scans out of
focus all are surer than none, and which is surest is not which draws best."""
_LOOK_MARGIN = 0.03
"""By how much another look must be surer in the mean. Of scans that are as they should be negatives are less sure by
0.05 to 0.8 and sharpened ones by 0.07 to 0.5, of chest X-rays by 0.004."""
_MOST, _MOST_AS_NEGATIVE = 0.5, 0.75
"""On what share of the scans another look must be surer. Negatives are on nine of ten where they are right, and cost
forty points where a few scans speak for them by chance, as of blurred brains."""
_LEAST_SURE = 0.4
"""How sure another look must be in the mean. The right one is by 0.6 and more on eleven pools; where a target is
nowhere to be seen, others have had up to 0.36."""
_KIND_MARGIN = 0.05
"""By how much another look may make the encoder less sure of the kind of scan, in the mean. A polyp is found in the
negative of a mole: the kind's share falls from 1.00 to 0.72 there, and rises where scans are negatives."""

_TOLD = ("score", "surer", "kind", "surest")
"""What run.json says of each look; of SaLIP's trials the score alone is measured."""

Changes = Mapping[str, Mapping[str, Any]]
"""Settings by section, as for `Preset.override`."""


@dataclass(frozen=True)
class Trial:
    """One choice of settings.

    Attributes:
        changes: what differs from the preset, by section; nothing for the preset as it is.
        score: the criterion, 0 to 1.
        surer: on what share of the scans it is surer than the preset as it is, of those where it is not as sure.
        most: the share that it takes to be chosen.
        kind: how sure it is of the kind of scan, in the mean.
        surest: how sure of the surest phrase of each scan, in the mean.
    """

    changes: Changes
    score: float
    surer: float = 1.0
    most: float = 0.0
    kind: float = 1.0
    surest: float = 1.0


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what was chosen.

    Attributes:
        trials: in the order in which they were tried, the preset's own settings first.
        scans: the ids of the scans that were looked at.
        criterion: what the score is, in words.
        margin: by how much others must be better than the first.
        least: how sure others must be of the surest phrase.
    """

    trials: tuple[Trial, ...]
    scans: tuple[str, ...]
    criterion: str = CRITERION
    margin: float = 0.0
    least: float = 0.0

    @property
    def best(self) -> Trial:
        """The one with the highest score of those that are surer on enough scans, and see no stranger kind of scan;
        of equal ones the first.
        """
        own = self.trials[0]
        others = (
            each
            for each in self.trials
            if each.surer >= each.most and each.kind >= own.kind - _KIND_MARGIN and each.surest >= self.least
        )
        best = max(others, key=lambda trial: trial.score, default=own)
        return best if best.score > own.score + self.margin else own

    @property
    def choice(self) -> Changes:
        """The settings of the best."""
        return self.best.changes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        told = _TOLD if self.criterion == LOOK_CRITERION else ("score",)
        return {
            "criterion": self.criterion,
            "scans": list(self.scans),
            "grid": [
                {"settings": _plain(each.changes), **{name: getattr(each, name) for name in told}}
                for each in self.trials
            ],
            "choice": _plain(self.choice),
        }


def default_grid(preset: Preset) -> list[Changes]:
    """The preset's own settings, then looser and stricter thresholds, each with every visual prompt tried.

    Thresholds move by a quarter of what is left to 1 (stricter) or of themselves (looser).
    """
    own: ProposalSettings = preset["proposals"]
    prompts = dict.fromkeys([preset["crops"].visual_prompt, "masked", "expanded", "greyed"])
    if preset["retrieval"].score == "saliency":
        prompts = dict.fromkeys([""])
    thresholds = [
        {},
        *(
            {
                "pred_iou_threshold": round(_moved(own.pred_iou_threshold, by), 4),
                "stability_threshold": round(_moved(own.stability_threshold, by), 4),
            }
            for by in (-0.25, 0.25)
        ),
    ]
    grid: list[Changes] = []
    for (position, prompt), moved in itertools.product(enumerate(prompts), thresholds):
        changes: dict[str, Mapping[str, Any]] = {}
        if moved:
            changes["proposals"] = moved
        if position:
            changes["crops"] = {"visual_prompt": prompt}
        grid.append(changes)
    return grid


def tune_label_free(
    pipeline: TextPipeline,
    scans: Sequence[tuple[Scan, Sequence[str]]],
    *,
    grid: Sequence[Changes] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tuning:
    r"""Try a few settings on a few scans and say which the pipeline is surest with; no mask is looked at.

    For a scan and a phrase with retrieved regions M the criterion is

    .. math:: \max(0, \bar p_M - \hat p) \; \cdot \; \bar q_M \; \cdot \; \bar s_M

    with the mean probability :math:`\bar p_M`, predicted IoU :math:`\bar q_M` and stability :math:`\bar s_M`
    of the retrieved regions, and the largest probability :math:`\hat p` of a region that shares no more than
    half of the smaller of the two with any of them (0 where there is none); 0 where nothing was retrieved.
    A setting with which the target stands out, is outlined surely and is outlined the same at another
    threshold is taken for a good one.

    Of MedCLIP-SAM the look is chosen among `LOOKS`, by `MedclipSam.sureness`; another look than the preset's must be
    surer by 0.03, and on half of the scans at least, as a negative on three of four, and sure of some phrase by 0.4. It
    must not make the encoder less sure of the kind of scan by more than 0.05, or what is nowhere in the scans might be
    found in their negatives.

    Args:
        pipeline: a SaLIP or MedCLIP-SAM pipeline.
        scans: a few, each with the phrases asked of it; of a volume the middle plane is looked at.
        grid: what to try; `default_grid` of the pipeline's preset when None.
        progress: called with the share done.

    Raises:
        UsageError: the pipeline has nothing to retrieve, or there is no scan.
    """
    if not isinstance(pipeline, (Salip, MedclipSam)):
        raise UsageError(
            f"the preset {pipeline.preset.name!r} has no settings that can be tuned without labels; "
            "expected one of SaLIP or MedCLIP-SAM, such as demo"
        )
    if not scans:
        raise UsageError("there is no readable scan to tune settings on; expected at least one")
    if isinstance(pipeline, MedclipSam):
        return _tune_look(pipeline, scans, LOOKS if grid is None else grid, progress)
    tried = list(default_grid(pipeline.preset) if grid is None else grid)
    images = [(_middle(pipeline, scan), phrases) for scan, phrases in scans]
    proposed: dict[ProposalSettings, list[Proposals]] = {}
    trials = []
    for index, changes in enumerate(tried):
        candidate = Salip(pipeline.preset.override(**changes), pipeline.encoder, pipeline.segmenter)
        # Making proposals is most of the work, and a visual prompt does not change them.
        key: ProposalSettings = candidate.preset["proposals"]
        if key not in proposed:
            proposed[key] = [candidate.propose(plane, phrases) for plane, phrases in images]
        looks = [
            candidate.region_evidence(plane, phrases, proposals)
            for (plane, phrases), proposals in zip(images, proposed[key], strict=True)
        ]
        scores = [sureness(look, matches) for look in looks for matches in look.matches]
        trials.append(Trial(changes, float(np.mean(scores))))
        if progress is not None:
            progress((index + 1) / len(tried))
    return Tuning(tuple(trials), tuple(scan.id for scan, _ in scans))


def _tune_look(
    pipeline: MedclipSam,
    scans: Sequence[tuple[Scan, Sequence[str]]],
    grid: Sequence[Changes],
    progress: Callable[[float], None] | None,
) -> Tuning:
    trials: list[Trial] = []
    own: list[float] = []
    for index, changes in enumerate(grid):
        candidate = type(pipeline)(pipeline.preset.override(**changes), pipeline.encoder, pipeline.segmenter)
        looks = [candidate.sureness(_middle(candidate, scan), tuple(phrases)) for scan, phrases in scans]
        scores = [float(np.nan_to_num(each.phrases).mean()) for each in looks]
        own = own or scores
        told = [score > before for score, before in zip(scores, own, strict=True) if score != before]
        surer = float(np.mean(told)) if told else 0.0
        negative = changes.get("look", {}).get("invert", False)
        most = 0.0 if not index else _MOST_AS_NEGATIVE if negative else _MOST
        kind = float(np.mean([each.kind for each in looks]))
        surest = float(np.mean([np.nan_to_num(each.phrases).max() for each in looks]))
        trials.append(Trial(changes, float(np.mean(scores)), surer, most, kind, surest))
        if progress is not None:
            progress((index + 1) / len(grid))
    looked_at = tuple(scan.id for scan, _ in scans)
    return Tuning(tuple(trials), looked_at, LOOK_CRITERION, margin=_LOOK_MARGIN, least=_LEAST_SURE)


def sureness(look: RegionEvidence, matches: Matches) -> float:
    """The criterion for one scan and phrase, 0 to 1; see `tune_label_free`."""
    if not matches.items:
        return 0.0
    taken = [match.proposal for match in matches.items]
    apart = [
        float(matches.probabilities[index])
        for index, proposal in enumerate(look.proposals)
        if all(overlap_coefficient(proposal.mask, other.mask) <= 0.5 for other in taken)
    ]
    margin = float(np.mean([match.probability for match in matches.items])) - max(apart, default=0.0)
    sure = float(np.mean([proposal.iou for proposal in taken]))
    stable = float(np.mean([proposal.stability for proposal in taken]))
    return 0.0 if math.isnan(margin) else max(0.0, margin) * min(1.0, max(0.0, sure)) * stable


def _middle(pipeline: TextPipeline, scan: Scan) -> Plane:
    planes = pipeline.planes(scan)
    middle: Plane = planes[len(planes) // 2]
    return middle


def _moved(threshold: float, by: float) -> float:
    return threshold + by * (1 - threshold if by > 0 else threshold)


def _plain(changes: Changes) -> dict[str, dict[str, Any]]:
    return {name: dict(settings) for name, settings in changes.items()}
