"""Scans, what the teacher thinks of them, and random views of both, in the square that the bundled encoder sees."""

from __future__ import annotations

import hashlib
import logging
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from lexiseg.datasets.label_maps import read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import NoLabels, UnreadableScan
from lexiseg.io.names import printable
from lexiseg.io.read import read_scan
from lexiseg.models.fpn import STRIDE
from lexiseg.pipelines.look import LookSettings
from lexiseg.pipelines.preset import Preset
from lexiseg.saliency.base import clip_bright
from lexiseg.saliency.framing import Rectangle, frame_scan
from lexiseg.training.students.corrected import is_corrected
from lexiseg.training.students.labels import TRAIN, LabelSet
from lexiseg.training.students.soft import read_soft
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the encoder is shown a scan.

    Attributes:
        size: side S of its square, in pixels.
        grid: positions along a side of its map.
        fill: what surrounds the scan there, 0 to 1; the mean of its normalisation.
        deviation: of its normalisation.
        percentile: of grey levels that is made white, see `clip_bright`.
        levels: how grey levels are changed before that.
    """

    size: int
    grid: int
    fill: float
    deviation: float
    percentile: float
    levels: LookSettings = field(default_factory=LookSettings)


def look_of(encoder: Any, preset: Preset) -> Look:
    """How a preset shows scans to an encoder."""
    return Look(
        size=encoder.input_size,
        grid=encoder.input_size // STRIDE,
        fill=float(encoder.mean.mean()),
        deviation=float(encoder.deviation.mean()),
        percentile=getattr(preset["saliency"], "clip_percentile", 100),
        levels=preset["look"] if preset.reads("look") else LookSettings(),
    )


@dataclass(frozen=True, eq=False)
class Pool:
    """N scans of a set.

    Attributes:
        images: uint8 (N, C, S, S), C = 1, or 3 where any scan is coloured.
        targets: uint8 (N, K, S, S), the probability of each target times 255.
        places: where each scan lies in its square.
        presence: float32 (N, K), how sure the teacher is that each target is there.
        weights: float32 (N,), how far each is trusted.
        rows: what they are of.
        train: bool (N,), False for scans that only say when to stop.
        failed: scans that could not be read.
    """

    images: Tensor
    targets: Tensor
    places: tuple[Rectangle, ...]
    presence: Tensor
    weights: FloatArray
    rows: tuple[ManifestRow, ...]
    train: NDArray[np.bool_]
    failed: int = 0

    def digest(self) -> str:
        """A sha256 of all that training depends on."""
        found = hashlib.sha256(self.images.numpy().tobytes())
        for part in (self.targets.numpy(), self.presence.numpy(), self.weights, self.train):
            found.update(part.tobytes())
        return found.hexdigest()


def load_pool(labels: LabelSet, look: Look, *, progress: Callable[[int, int], None] | None = None) -> Pool:
    """Read a set's scans and what is known of their targets: probabilities where the teacher left them, else masks.

    A mask that a person corrected goes before the probabilities, and one line says how many do. A scan that cannot be
    read is left out with a warning.

    Raises:
        NoLabels: no scan can be read, or no training scan shows one of the targets.
    """
    found, rows, problem = [], [], ""
    corrected = 0
    for done, row in enumerate(labels.rows, start=1):
        try:
            by_hand = is_corrected(row)
            found.append(_read(row, len(labels.names), look, hard=labels.supervised or by_hand))
            corrected += by_hand
        except UnreadableScan as error:
            problem = str(error)
            logger.warning("left out: %s", problem)
        else:
            rows.append(row)
        if progress is not None:
            progress(done, len(labels.rows))
    if not found:
        raise NoLabels(f"none of the {len(labels.rows)} scans can be read; the first problem: {problem}")
    if corrected:
        logger.warning("masks that were corrected by hand are learnt as they are: %d of %d", corrected, len(rows))
    channels = max(image.shape[0] for image, *_ in found)
    targets = torch.stack([each[1] for each in found])
    train = np.array([row.extra["split"] == TRAIN for row in rows])
    seen = (targets[torch.from_numpy(train)] > 127).any(3).any(2).any(0)
    for name, shown in zip(labels.names, seen.tolist(), strict=True):
        if not shown:
            raise NoLabels(
                f"none of the {int(train.sum())} training scans shows {printable(name)!r}: there is nothing to learn; "
                "try another phrase or more scans"
            )
    return Pool(
        images=torch.stack([image.expand(channels, -1, -1) for image, *_ in found]),
        targets=targets,
        places=tuple(place for _, _, place, _ in found),
        presence=torch.stack([presence for *_, presence in found]),
        weights=np.array([float(row.extra["weight"]) for row in rows], np.float32),
        rows=tuple(rows),
        train=train,
        failed=len(labels.rows) - len(rows),
    )


def _read(row: ManifestRow, targets: int, look: Look, *, hard: bool) -> tuple[Tensor, Tensor, Rectangle, Tensor]:
    if row.mask is None:
        raise UnreadableScan(f"{printable(row.id)}: it has no mask")
    scan = read_scan(row.image, id=row.id)
    if isinstance(scan, Volume):
        raise UnreadableScan(f"{printable(row.id)}: it is a volume; expected an image (slices of one)")
    planes = scan.planes()
    shown = planes[0].pixels
    labels = read_labels(row.mask, targets=targets, shape=scan.shape)
    masks = np.stack([labels == k for k in range(1, targets + 1)])
    soft = None if hard else read_soft(row)
    given = masks.astype(np.float32) if soft is None or soft.shape != masks.shape else soft
    given = np.stack([planes.cut(each)[0] for each in given])
    frame = frame_scan((shown.shape[0], shown.shape[1]), size=look.size, fill=(look.fill,) * 3)[0]
    image = frame.apply(clip_bright(look.levels.apply(shown), look.percentile))[0]
    place = frame.place
    square = torch.zeros(targets, look.size, look.size)
    square[:, place.top : place.top + place.height, place.left : place.left + place.width] = F.interpolate(
        torch.from_numpy(given)[None], (place.height, place.width), mode="bilinear", align_corners=False, antialias=True
    )[0]
    told = [float(cell or "nan") for cell in row.extra.get("presence", "").split(";")] if not hard else []
    known = told if len(told) == targets and not any(map(math.isnan, told)) else masks.any((1, 2)).tolist()
    grey = shown.ndim == 2
    return (
        (image[:1] if grey else image).mul(255).round().to(torch.uint8),
        square.clamp(0, 1).mul(255).round().to(torch.uint8),
        place,
        torch.tensor(known, dtype=torch.float32),
    )


@dataclass(frozen=True, eq=False)
class Views:
    """B scans of a step, seen in random views.

    Attributes:
        images: float32 (B, C, S, S) in [0, 1].
        targets: float32 (B, K, S, S) in [0, 1].
        valid: float32 (B, 1, S, S), where the scan is.
        places: int (B,), which scans of the pool they are.
    """

    images: Tensor
    targets: Tensor
    valid: Tensor
    places: NDArray[np.intp]


class ViewMaker:
    """Random views of a pool's training scans, a pure function of the seed and the step.

    A view is turned, scaled, moved and, where that is allowed, mirrored, the scan and what is known of it alike; the
    scan's grey levels are changed by another gamma, gain, noise and blur. Strong views of what was labelled on a plain
    one are what self-training lives by (L. Yang et al., ST++, CVPR 2022; K. Sohn et al., FixMatch, NeurIPS 2020).

    Args:
        pool: the scans.
        fill: what surrounds a scan in its square.
        flips: whether to mirror.
        size: B.
        seed: of the order and of all that is drawn.
        chances: how often a scan is drawn, by number, see `balanced_chances`; each once an epoch when None.
    """

    def __init__(
        self, pool: Pool, *, fill: float, flips: bool, size: int, seed: int, chances: FloatArray | None = None
    ) -> None:
        self._pool, self._fill, self._flips, self._size, self._seed = pool, fill, flips, size, seed
        self._places = np.flatnonzero(pool.train)
        self._chances = chances

    @property
    def per_epoch(self) -> float:
        """Steps in which as many views are seen as there are scans."""
        return len(self._places) / self._size

    def at(self, step: int, targets: Tensor) -> Views:
        """The views of a step.

        Args:
            step: from 0.
            targets: uint8 (N, K, S, S), the pool's own or corrected ones.
        """
        images, maps, valid, chosen = [], [], [], []
        for number in range(step * self._size, (step + 1) * self._size):
            place = self._place(number)
            random = np.random.default_rng((self._seed, zlib.crc32(f"view {number}".encode())))
            image, known = self._pool.images[place].float() / 255, targets[place].float() / 255
            turn = _turn(random, flips=self._flips)
            inside = _inside(self._pool.places[place], image.shape[-1])
            images.append(_recoloured(_warp(image, turn, fill=self._fill), random))
            maps.append(_warp(known, turn))
            valid.append(_warp(inside, turn))
            chosen.append(place)
        return Views(torch.stack(images), torch.stack(maps), torch.stack(valid), np.array(chosen))

    def _place(self, number: int) -> int:
        epoch, within = divmod(number, len(self._places))
        random = np.random.default_rng((self._seed, epoch))
        if self._chances is None:
            return int(random.permutation(self._places)[within])
        chances = self._chances[self._places].astype(np.float64)
        drawn = random.choice(self._places, len(self._places), p=chances / chances.sum())
        return int(drawn[within])


def valid_of(pool: Pool, places: NDArray[np.intp]) -> Tensor:
    """Where some scans of a pool lie in their squares, float32 (B, 1, S, S)."""
    return torch.stack([_inside(pool.places[k], pool.images.shape[-1]) for k in places])


def _inside(place: Rectangle, side: int) -> Tensor:
    found = torch.zeros(1, side, side)
    found[:, place.top : place.top + place.height, place.left : place.left + place.width] = 1
    return found


def _turn(random: np.random.Generator, *, flips: bool) -> Tensor:
    """Where in the square each point of a view is taken from, float32 (2, 3), as torch's affine_grid takes it."""
    angle, scale = random.uniform(-0.25, 0.25), math.exp(random.uniform(-0.18, 0.18))
    along, down = random.uniform(-0.12, 0.12, 2)
    side = -1.0 if random.random() < 0.5 and flips else 1.0
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[side * c, -s, along], [side * s, c, down]], dtype=torch.float32)


def _warp(values: Tensor, turn: Tensor, *, fill: float = 0.0) -> Tensor:
    grid = F.affine_grid(turn[None], [1, *values.shape], align_corners=False)
    return F.grid_sample(values[None] - fill, grid, align_corners=False)[0] + fill


def _recoloured(image: Tensor, random: np.random.Generator) -> Tensor:
    image = image.clamp(0, 1)
    if random.random() < 0.6:
        image = image ** math.exp(random.uniform(-0.5, 0.5))
    if random.random() < 0.5:
        image = image * random.uniform(0.75, 1.25)
    if random.random() < 0.4:
        noise = random.standard_normal(image.shape[-2:], np.float32)
        image = image + torch.from_numpy(noise) * random.uniform(0, 0.06)
    if random.random() < 0.3:
        image = gaussian_blur(image, [9, 9], [random.uniform(0.5, 1.8)] * 2)
    return image.clamp(0, 1)
