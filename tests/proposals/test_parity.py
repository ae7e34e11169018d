"""The same masks as the published generator, on the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import _sam
from published_sam import published_sam

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.loading import load_segmenter
from lexiseg.models.segmenters.sam import SamSegmenter
from lexiseg.models.segmenters.sam_folder import default_processor
from lexiseg.proposals.generator import propose
from lexiseg.proposals.settings import ProposalSettings

reference = pytest.importorskip("segment_anything", reason="needs segment-anything")


def both(segmenter: SamSegmenter, scan: np.ndarray, settings: ProposalSettings) -> tuple[np.ndarray, np.ndarray, int]:
    """The published generator's masks, ours, and how many of the former come from crops; uint8 (H, W, 3)."""
    generator = reference.SamAutomaticMaskGenerator(
        published_sam(segmenter.model),
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.pred_iou_threshold,
        stability_score_thresh=settings.stability_threshold,
        stability_score_offset=settings.stability_offset,
        box_nms_thresh=settings.box_nms_threshold,
        crop_n_layers=settings.crop_layers,
        crop_nms_thresh=settings.crop_nms_threshold,
        crop_n_points_downscale_factor=settings.crop_points_downscale,
    )
    records: list[dict[str, Any]] = generator.generate(scan)
    ours = propose(segmenter, scan.astype(np.float32) / 255, settings)
    assert records and len(ours)
    whole = [0, 0, scan.shape[1], scan.shape[0]]
    cropped = sum(record["crop_box"] != whole for record in records)
    return np.stack([r["segmentation"] for r in records]), np.stack([each.mask for each in ours]), cropped


def matched(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each mask whether another one has an IoU of at least 0.95 with it."""
    left, right = (each.reshape(len(each), -1).astype(np.float32) for each in (masks, others))
    shared = left @ right.T
    iou = shared / (left.sum(1)[:, None] + right.sum(1)[None] - shared)
    return np.asarray(iou.max(axis=1) >= 0.95)


def random_segmenter(scan: np.ndarray, seed: int) -> tuple[SamSegmenter, float]:
    """Random weights, half of whose masks have an estimated IoU above 0.5; a tenth of the logits' spread."""
    model = _sam("tiny", seed)
    segmenter = SamSegmenter(model, default_processor(256), name="random", device=torch.device("cpu"))
    points = np.random.default_rng(seed).random((60, 1, 2)) * [scan.shape[1], scan.shape[0]]
    image = segmenter.encode(scan.astype(np.float32) / 255)
    decoded = segmenter.decode(image, points=points, labels=np.ones((60, 1)), multimask=True)
    with torch.no_grad():
        model.mask_decoder.iou_prediction_head.proj_out.bias += 0.5 - decoded.iou.median()
    return segmenter, 0.1 * float(decoded.logits.std())


class TestRandomWeights:
    @pytest.mark.parametrize("layers", [0, 1])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_same_masks(self, seed: int, layers: int) -> None:
        """Without NMS, since random masks all have the scan as their box.

        In a scan this small no mask of a crop is farther than the 20 pixels of tolerance from the scan's own
        border, so that crops contribute.
        """
        scan = np.random.default_rng(seed).integers(0, 256, (40, 48, 3)).astype(np.uint8)
        segmenter, offset = random_segmenter(scan, seed)
        settings = ProposalSettings(
            points_per_side=10,
            pred_iou_threshold=0.5,
            stability_threshold=0.5,
            stability_offset=offset,
            box_nms_threshold=1.0,
            crop_nms_threshold=1.0,
            crop_layers=layers,
            crop_points_downscale=2,
        )
        theirs, ours, cropped = both(segmenter, scan, settings)
        assert len(theirs) > 20 and (cropped > 20) == bool(layers)
        assert abs(len(theirs) - len(ours)) <= 0.05 * len(theirs)
        assert matched(theirs, ours).mean() >= 0.95
        assert matched(ours, theirs).mean() >= 0.95


SCANS = {
    "chest-xray": (160, 192),
    "breast-ultrasound": (192, 192),
    "fetal-ultrasound": (180, 192),
    "brain-mri": (192, 192),
}


class TestTrainedWeights:
    @pytest.mark.parametrize("layers", [0, 1])
    def test_same_masks_after_nms(self, layers: int) -> None:
        """Masks with boxes of their own: NMS and cut-off masks count.  What is within rounding of a threshold
        may differ and take a neighbour along, of a few dozen.  Low thresholds give many masks of few scans.
        """
        segmenter = load_segmenter("bundled", device="cpu", precision="float32")
        settings = ProposalSettings(
            points_per_side=6,
            pred_iou_threshold=0.2,
            stability_threshold=0.4,
            crop_layers=layers,
            crop_points_downscale=2,
        )
        found, back, crops = [], [], 0
        for modality, shape in SCANS.items():
            for seed in (3, 4):
                pixels = generate(modality, seed, size=shape, target=True).scan.pixels
                colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
                theirs, ours, cropped = both(segmenter, np.rint(colour * 255).astype(np.uint8), settings)
                found.append(matched(theirs, ours))
                back.append(matched(ours, theirs))
                crops += cropped
        assert len(np.concatenate(found)) > 60 and (crops > 15) == bool(layers)
        assert np.concatenate(found).mean() >= 0.9
        assert np.concatenate(back).mean() >= 0.9
