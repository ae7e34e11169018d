"""The pipeline of a segmenter that reads the phrase: what is taken, what is absent, and what comes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sam3_files
import torch
from fake_segmenter import FakeSegmenter
from regions_of import Box, filled
from scans_of import preset_of, volume_of

from lexiseg.errors import DownloadFailed, UsageError
from lexiseg.models.protocols import Instances, TextSegmenter
from lexiseg.pipelines.baselines import NoEncoder
from lexiseg.pipelines.loading import load
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.sam3 import Sam3
from lexiseg.values.scans import Image

SHAPE = (40, 60)
FIRST, SECOND = (5, 5, 20, 20), (30, 10, 50, 30)


class Reader:
    """A segmenter that reads: every phrase names two boxes."""

    name, device, precision, takes_masks = "reader", torch.device("cpu"), "float32", False

    def __init__(self, presence: float, scores: Sequence[float], boxes: Sequence[Box] = (FIRST, SECOND)) -> None:
        self.presence, self.scores, self.boxes = presence, scores, boxes
        self.asked: list[tuple[str, ...]] = []

    def find(self, pixels: np.ndarray, phrases: Sequence[str]) -> list[Instances]:
        self.asked.append(tuple(phrases))
        logits = torch.stack([torch.from_numpy(filled(SHAPE, box)).float() * 20 - 10 for box in self.boxes])
        boxes = torch.tensor(self.boxes, dtype=torch.float32)
        return [Instances(SHAPE, self.presence, torch.tensor(self.scores), boxes, logits) for _ in phrases]

    def probabilities(self, instances: Instances, chosen: Sequence[int]) -> np.ndarray:
        found: np.ndarray = instances.logits[list(chosen)].sigmoid().numpy()
        return found


def pipeline(reader: Reader, **changes: Any) -> Sam3:
    preset = preset_of("test", pipeline="sam3", presence={"threshold": 0.5}, **changes)
    encoder: Any = NoEncoder(reader.device, "float32")
    return Sam3(preset, encoder, reader)  # type: ignore[arg-type]


@pytest.fixture
def scan() -> Image:
    return Image(np.zeros(SHAPE, np.float32), id="dark")


class TestAnswers:
    def test_all_that_are_sure_enough(self, scan: Image) -> None:
        reader = Reader(0.9, [0.8, 0.4])
        assert isinstance(reader, TextSegmenter)
        result = pipeline(reader)(scan, ["polyp", "disc"], keep_stages=True)
        found = result["polyp"]
        assert reader.asked == [("polyp", "disc")]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, FIRST, SECOND))
        assert found.present and found.presence == pytest.approx(0.9)
        assert found.confidence == pytest.approx(0.8)
        assert found.prompts[0].boxes.tolist() == [list(FIRST), list(SECOND)]
        map_ = found.saliency[0].map
        assert map_[10, 10] == pytest.approx(0.8, abs=1e-3) and map_[20, 40] == pytest.approx(0.4, abs=1e-3)
        assert result.mask.names == ("polyp", "disc")

    def test_a_candidate_below_the_score_is_left(self, scan: Image) -> None:
        found = pipeline(Reader(0.9, [0.8, 0.4]), instances={"min_score": 0.5})(scan, "polyp")["polyp"]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, FIRST))

    def test_small_pieces_go(self, scan: Image) -> None:
        found = pipeline(Reader(0.9, [0.8, 0.8]), instances={"min_area": 0.1})(scan, "polyp")["polyp"]
        np.testing.assert_array_equal(found.mask, filled(SHAPE, SECOND))

    def test_a_volume_goes_plane_by_plane(self) -> None:
        reader = Reader(0.9, [0.8, 0.1])
        volume = volume_of(np.zeros((3, *SHAPE), np.float32))
        found = pipeline(reader)(volume, "polyp")["polyp"]
        assert len(reader.asked) == 3
        np.testing.assert_array_equal(found.mask, np.stack([filled(SHAPE, FIRST)] * 3))


class TestAbsent:
    def test_below_the_threshold(self, scan: Image) -> None:
        found = pipeline(Reader(0.3, [0.8, 0.4]))(scan, "polyp", keep_stages=True)["polyp"]
        assert not found.present and not found.mask.any() and found.prompts[0].empty
        assert found.presence == pytest.approx(0.3) and found.confidence == pytest.approx(0.7)

    def test_present_but_nothing_stands_out(self, scan: Image) -> None:
        found = pipeline(Reader(0.9, [0.2, 0.1]))(scan, "polyp", keep_stages=True)["polyp"]
        assert not found.present and found.confidence <= 0.5
        assert found.saliency[0].map[10, 10] == pytest.approx(0.2, abs=1e-3)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [({"min_score": 2}, "min_score is 2"), ({"min_area": -1}, "min_area is -1"), ({"fill_holes": 1}, "fill_holes")],
    )
    def test_values_that_mean_nothing(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError, match=f"instances: {said}"):
            load_preset("sam3", instances=settings)

    def test_an_encoders_sections_are_not_read(self) -> None:
        with pytest.raises(UsageError, match="'sam3' reads no section saliency"):
            load_preset("sam3", saliency={"method": "dense"})


def test_a_segmenter_that_reads_no_text() -> None:
    encoder: Any = NoEncoder(torch.device("cpu"), "float32")
    with pytest.raises(UsageError, match="fake segmenter reads no text; expected SAM 3"):
        Sam3(load_preset("sam3"), encoder, FakeSegmenter())


def test_the_preset_with_a_folder(tmp_path: Path, scan: Image) -> None:
    folder = sam3_files.make_folder(tmp_path / "sam3", whole=False)
    segment = load("sam3", device="cpu", segmenter=str(folder), presence={"threshold": None})
    result = segment(scan, "left lung")
    assert isinstance(segment, Sam3) and 0 <= result["left lung"].presence <= 1
    assert result["left lung"].mask.shape == SHAPE
    assert result.provenance["segmenter"]["sha256"] and result.provenance["encoder"] == {"name": "none"}


def test_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LEXISEG_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        DownloadFailed, match=r"facebook/sam3 is not on this machine .* `lexiseg models pull facebook/sam3`"
    ):
        load("sam3", device="cpu")
