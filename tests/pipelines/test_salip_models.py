"""SaLIP with real networks of random weights, from a scan to the end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_sam_folder
from towers import make_tower_folder

from lexiseg.pipelines.loading import load
from lexiseg.values.scans import Image


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("tiny")
    return make_tower_folder(made / "clip", "CLIP ViT"), make_sam_folder(made / "sam", size="tiny")


class TestTinyModels:
    """Real towers of random weights, in the folders' published layouts: whatever they propose."""

    @pytest.mark.parametrize("name", ["salip", "demo-salip"])
    @pytest.mark.parametrize("loose", [True, False])
    @pytest.mark.parametrize("shape", [(40, 56), (1, 1), (33, 20, 3)])
    def test_a_scan_runs_to_the_end(
        self, name: str, loose: bool, shape: tuple[int, ...], folders: tuple[Path, Path]
    ) -> None:
        clip, sam = folders
        proposals: dict[str, Any] = {"points_per_side": 3, "crop_layers": 0}
        if loose:
            proposals |= {"pred_iou_threshold": 0.0, "stability_threshold": 0.0, "max_area": 1.0}
        made = load(
            name,
            encoder=str(clip),
            segmenter=str(sam),
            device="cpu",
            presence={"threshold": None},
            proposals=proposals,
        )
        noise = Image(np.random.default_rng(0).random(shape, dtype=np.float32))
        first, again = (made(noise, ["breast tumor", "lungs"], keep_stages=True) for _ in range(2))
        assert first.mask.labels.shape == shape[:2]
        # A segmenter of random weights may propose nothing, of which nothing is known.
        unseen = name == "salip" and not len(first.proposals[0])
        for found in first.targets:
            numbers = (found.presence, found.confidence)
            assert all(math.isnan(each) for each in numbers) if unseen else all(0 <= each <= 1 for each in numbers)
        np.testing.assert_array_equal(first.mask.labels, again.mask.labels)
        if not first.proposals[0].items:
            assert not first.present and not first.mask.foreground.any()
        assert len(first.provenance["segmenter"]["sha256"]) == 64

    def test_a_constant_scan(self, folders: tuple[Path, Path]) -> None:
        clip, sam = folders
        made = load("salip", encoder=str(clip), segmenter=str(sam), device="cpu",
                    proposals={"points_per_side": 3, "crop_layers": 0})  # fmt: skip
        found = made(Image(np.full((24, 24), 0.5, np.float32)), "lungs")
        assert found["lungs"].mask.shape == (24, 24)
