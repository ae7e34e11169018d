"""The bundled encoder's towers learn what their teacher thinks of a pool of scans: steps, checks, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lexiseg.models.loading import autocast, resolve_precision
from lexiseg.training.average import ramped
from lexiseg.training.checkpoint import load_checkpoint, save_checkpoint
from lexiseg.training.optimizing import parameter_groups, refuse_infinite, set_rate
from lexiseg.training.schedule import warm_cosine
from lexiseg.training.students.robust import balanced
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.start import share_of_start
from lexiseg.training.students.towers import PhraseTowers
from lexiseg.training.students.towers_data import Look, Pool, ViewMaker, valid_of

if TYPE_CHECKING:
    from lexiseg.training.students.trainer import Tell

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_KEPT = 2**30
"""Bytes of features of held-out scans, which are not computed again: of about two hundred scans and three towers."""
_CLIP, _LAG, _WHOLE = 1.0, 10, 0.2
"""Largest norm of a gradient; of the running average, see `ramped`; weight of what is said of the whole scan."""


@dataclass
class TowersState:
    """How far a training has come.

    Attributes:
        step: steps that are finished.
        best: the best check's score; -1 before the first.
        stale: checks since then.
        history: one row for each check.
        ended: whether patience ended it.
    """

    step: int = 0
    best: float = -1.0
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True, eq=False)
class TowersTrained:
    """What came of a training.

    Attributes:
        tensors: what was tuned, by name.
        score: of the best check; NaN where nothing was held out.
        share: of the weights that it began from in those that are kept.
        history: a row for each check.
        early: whether patience ended it.
    """

    tensors: Mapping[str, Tensor]
    score: float
    share: float
    history: tuple[Mapping[str, float], ...]
    early: bool


class TowersTrainer:
    r"""Trains the towers on soft labels, each tower by itself.

    The loss of a scan is, for each tower and averaged over them,

    .. math:: L = \operatorname{BCE}(\sigma(z), p) + D(\sigma(z), p) + 0.2 \operatorname{BCE}(\sigma(z_g), p_g)

    with p the teacher's probability, :math:`D` of `soft_dice_losses`, and :math:`p_g` the teacher's presence, which the
    towers' answer on the whole scan learns. What is checked and kept is a running average of the weights (a mean
    teacher's: A. Tarvainen, H. Valpola, NeurIPS 2017), drawn back a little to where they began (`share_of_start`).

    Args:
        network: the towers, with the weights that they begin from.
        pool: what they learn from.
        look: how the encoder sees a scan.
        settings: how.
        flips: whether scans may be mirrored.
        device: where.
        checkpoint: the file that a killed run goes on from.
        start: sha256 of the weights that they begin from.
        log: is called with the history after each check.
        tell: see `Tell`.

    Raises:
        UsageError: with `resume`, the checkpoint is of another training.
    """

    def __init__(
        self,
        network: PhraseTowers,
        pool: Pool,
        *,
        look: Look,
        settings: TrainSettings,
        flips: bool,
        device: torch.device,
        checkpoint: Path,
        start: str,
        resume: bool,
        log: Callable[[list[dict[str, float]]], object],
        tell: Tell,
    ) -> None:
        self.network, self.pool, self.look, self.settings = network.to(device), pool, look, settings
        self.device, self.checkpoint, self._log, self._tell = device, checkpoint, log, tell
        self._dtype = resolve_precision(settings.precision if settings.precision != "float16" else "auto", device)
        self.begun = network.tuned()
        self.average = {name: value.clone() for name, value in self.begun.items()}
        self.best = {name: value.clone() for name, value in self.begun.items()}
        self.targets = pool.targets.clone()
        weighted = "weighting" in settings.options
        self.weights = torch.from_numpy(balanced(pool.weights) if weighted else np.ones_like(pool.weights))
        chances = balanced_chances(pool) if "balance" in settings.options else None
        self.views = ViewMaker(
            pool, fill=look.fill, flips=flips, size=settings.batch, seed=settings.seed, chances=chances
        )
        self.steps = settings.count
        list(network.learn())
        groups = parameter_groups(network, weight_decay=settings.weight_decay)
        for group in groups:
            group.pop("names")
        self.optimizer: Any = torch.optim.AdamW(groups, lr=settings.top_rate)
        self.state = TowersState()
        self._kept: dict[tuple[int, ...], list[Tensor]] = {}
        self.identity = {
            "settings": {**settings.as_dict(), "precision": ""},
            "scans or labels": pool.digest(),
            "start": start,
        }
        self.share = self._share()
        if resume and checkpoint.exists():
            self.state, kept = load_checkpoint(checkpoint, TowersState, self.identity)
            network.put(kept["network"])
            self.average, self.best, self.targets = kept["average"], kept["best"], kept["targets"]
            self.optimizer.load_state_dict(kept["optimizer"])
            logger.info("resumed at step %d", self.state.step)

    def run(self) -> TowersTrained:
        """Train to the end, or until patience ends it.

        Raises:
            TrainingDiverged: the loss is not finite.
            UnwritableResult: the file system refused.
        """
        settings, state = self.settings, self.state
        every = max(1, -(-self.steps // min(settings.checks, self.steps, 8)))
        losses: list[float] = []
        began = time.monotonic()
        if not state.history and not state.step:
            self._check(math.nan, 0.0)
        while state.step < self.steps and not state.ended:
            losses.append(self._step(state.step))
            state.step += 1
            if state.step % every == 0 or state.step == self.steps:
                self._check(float(np.mean(losses)), time.monotonic() - began)
                losses, began = [], time.monotonic()
                if "refresh" in settings.options and state.step < self.steps:
                    self._refresh()
                self._save()
            self._tell("training", state.step, self.steps, losses[-1] if losses else math.nan, state.best)
        score = state.best if (~self.pool.train).any() else math.nan
        return TowersTrained(self.best, score, self.share, tuple(state.history), state.ended)

    def _step(self, step: int) -> float:
        settings = self.settings
        rate = settings.top_rate * warm_cosine(step, self.steps, warmup=5)
        set_rate(self.optimizer, rate)
        views = self.views.at(step, self.targets)
        targets, valid = (self._small(each) for each in (views.targets, views.valid))
        weights = self.weights[views.places].to(self.device)
        if "curriculum" in settings.options:
            weights = weights * unlocked(self.pool.weights, views.places, step / self.steps).to(self.device)
        presence = self.pool.presence[views.places].to(self.device)
        with autocast(self.device, self._dtype):
            maps, wholes = self.network(self._shown(views.images))
        total = (self._losses(maps, wholes, targets, valid, presence) * weights).mean()
        advice = f"try a smaller --rate than {settings.top_rate:g}, or --precision float32"
        refuse_infinite("loss", total.item(), step=step, advice=advice)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        self.optimizer.step()
        decay = ramped(settings.average, step, lag=_LAG)
        for name, value in self.network.tuned().items():
            self.average[name].lerp_(value, 1 - decay)
        return total.item()

    def _losses(self, maps: Tensor, wholes: Tensor, targets: Tensor, valid: Tensor, presence: Tensor) -> Tensor:
        """Each scan's loss (B,), the mean over towers."""
        found = []
        for logits, whole in zip(maps.float(), wholes.float(), strict=True):
            own = F.binary_cross_entropy_with_logits(whole, presence, reduction="none").mean(1)
            found.append(soft_losses(logits, targets, valid) + _WHOLE * own)
        return torch.stack(found).mean(0)

    def _shown(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the towers take them: three channels, normalised as the encoder's are."""
        return (images.expand(-1, 3, -1, -1).to(self.device) - self.look.fill) / self.look.deviation

    def _small(self, values: Tensor) -> Tensor:
        """On the grid of positions: each the mean of its pixels."""
        return F.avg_pool2d(values, values.shape[-1] // self.look.grid).to(self.device)

    @torch.no_grad()
    def probabilities(self, places: NDArray[np.intp]) -> Tensor:
        """What the network, as it is, makes of some scans of the pool, float32 (B, K, g, g) on the CPU."""
        found = []
        for start in range(0, len(places), self.settings.batch):
            with autocast(self.device, self._dtype):
                maps, _ = self.network.answers(self._seen(places[start : start + self.settings.batch]))
            found.append(self.network.mean(maps.float()).sigmoid().cpu())
        return torch.cat(found)

    def _seen(self, places: NDArray[np.intp]) -> list[Tensor]:
        """Features of some scans as they are. Those of held-out ones, which each check looks at, are kept where they
        stay the same, up to `_KEPT` bytes.
        """
        some = tuple(places.tolist())
        if some in self._kept:
            return self._kept[some]
        found = self.network.features(self._shown(self.pool.images[torch.from_numpy(places)].float() / 255))
        bytes_kept = sum(each.nbytes for features in (*self._kept.values(), found) for each in features)
        if not self.network.sees_anew and not self.pool.train[places].any() and bytes_kept <= _KEPT:
            self._kept[some] = found
        return found

    def _agreement(self, places: NDArray[np.intp]) -> float:
        """Mean soft Dice of the network with what the teacher said of some scans, weighted by trust."""
        known = F.avg_pool2d(self.pool.targets[torch.from_numpy(places)].float() / 255, self._cell)
        valid = F.avg_pool2d(valid_of(self.pool, places), self._cell)
        loss = soft_dice_losses(self.probabilities(places), known, valid)
        return 1 - float(np.average(loss.numpy(), weights=self.pool.weights[places]))

    @property
    def _cell(self) -> int:
        return self.look.size // self.look.grid

    def _share(self) -> float:
        """How much of the start is kept, by how far it is from the labels."""
        if self.settings.anchor is not None:
            return self.settings.anchor
        places = np.flatnonzero(self.pool.train)
        some = places[:: -(-len(places) // 32)]
        share = share_of_start(self._agreement(some), len(places))
        logger.info("the start keeps a share of %.2f", share)
        return share

    def _check(self, loss: float, seconds: float) -> None:
        """Score the average, drawn back to its start, on held-out scans, and keep it if it is the best."""
        state = self.state
        kept = {name: value.lerp(self.begun[name], self.share) for name, value in self.average.items()}
        places = np.flatnonzero(~self.pool.train)
        now = self.network.tuned()
        self.network.put(kept)
        score = self._agreement(places) if len(places) else math.nan
        self.network.put(now)
        if math.isnan(score) or score > state.best:
            self.best, state.stale = kept, 0
            state.best = state.best if math.isnan(score) else score
        else:
            state.stale += 1
        state.ended = 0 < self.settings.patience <= state.stale
        state.history.append({
            "step": state.step, "epoch": state.step / self.views.per_epoch, "cycle": 1,
            "rate": self.optimizer.param_groups[0]["lr"], "loss": loss, "validation_dice": score,
            "seconds": seconds,
        })  # fmt: skip
        self._log(state.history)

    @torch.no_grad()
    def _refresh(self) -> None:
        """The average says again what it thinks of the training scans; what was said before counts half.

        Source: S. Laine, T. Aila, Temporal ensembling for semi-supervised learning, ICLR 2017, where each epoch's
        answers are averaged with those before; A. Tarvainen, H. Valpola, NeurIPS 2017, for whose answers they are.
        """
        places = np.flatnonzero(self.pool.train)
        now = self.network.tuned()
        self.network.put(self.average)
        side = self.pool.targets.shape[-1]
        for start in range(0, len(places), self.settings.batch):
            some = places[start : start + self.settings.batch]
            found = F.interpolate(self.probabilities(some), (side, side), mode="bilinear", align_corners=False)
            index = torch.from_numpy(some)
            mixed = self.targets[index].float() / 255 * 0.5 + found * 0.5
            self.targets[index] = mixed.mul(255).round().to(torch.uint8)
            self._tell("refreshing", start, len(places), math.nan, self.state.best)
        self.network.put(now)

    def _save(self) -> None:
        tensors = {
            "network": self.network.tuned(),
            "average": self.average,
            "best": self.best,
            "targets": self.targets,
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint, self.state, tensors, self.identity)


def soft_losses(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy with probabilities and `soft_dice_losses`, of each scan.

    Args:
        logits: float (B, K, h, w).
        targets: float (B, K, h, w) in [0, 1].
        valid: float (B, 1, h, w), where a position lies in the scan.

    Returns:
        float (B,).
    """
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * valid
    crossed = each.sum((2, 3)) / valid.sum((2, 3)).clamp_min(1)
    return crossed.mean(1) + soft_dice_losses(logits.sigmoid(), targets, valid)


def soft_dice_losses(found: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    r"""1 - Dice of each scan, of probabilities with probabilities.

    .. math:: D = 1 - \frac{\sum p + \sum q - \sum |p - q| + 1}{\sum p + \sum q + 1}

    Unlike the usual soft Dice it is 0 where, and only where, both are equal. Source: Z. Wang et al., Dice semimetric
    losses: optimizing the Dice score with soft labels, MICCAI 2023, equation of DML_1; here with one position added, so
    that two empty maps agree.

    Args:
        found: float (B, K, h, w) in [0, 1].
        targets: the same.
        valid: float (B, 1, h, w).

    Returns:
        float (B,), the mean over targets.

    Example:
        >>> p = torch.full((1, 1, 4, 4), 0.3)
        >>> float(soft_dice_losses(p, p, torch.ones(1, 1, 4, 4)))
        0.0
    """
    found, targets = found * valid, targets * valid
    total = found.sum((2, 3)) + targets.sum((2, 3))
    apart = (found - targets).abs().sum((2, 3))
    return (1 - (total - apart + 1) / (total + 1)).mean(1)


def balanced_chances(pool: Pool) -> NDArray[np.float32]:
    """How often each scan is drawn, so that present and absent targets are seen equally often, at most threefold.

    A pool of a screening is mostly without the target, and a network that never sees it need not draw it. Source: B.
    Kang et al., Decoupling representation and classifier for long-tailed recognition, ICLR 2020, square-root sampling
    in spirit; here bounded.
    """
    present = (pool.presence.max(1).values >= 0.5).numpy()
    share = float(present[pool.train].mean()) if pool.train.any() else 0.5
    wanted = np.where(present, 0.5 / max(share, 1 / 6), 0.5 / max(1 - share, 1 / 6))
    return np.asarray(np.minimum(wanted, 3.0), np.float32)


def unlocked(weights: NDArray[np.float32], places: NDArray[np.intp], progress: float) -> Tensor:
    """1 for scans that a curriculum from sure to unsure shows already, else 0.

    It begins with the surer half of the scans and has all of them after half of the run. Source: L. Yang et al., ST++,
    CVPR 2022, which trains on reliable images first; Y. Bengio et al., Curriculum learning, ICML 2009.

    Args:
        weights: how far each scan of the pool is trusted.
        places: the scans of a batch.
        progress: share of the run that is done.
    """
    least = np.quantile(weights, max(0.0, 0.5 - progress))
    return torch.from_numpy((weights[places] >= least).astype(np.float32))
