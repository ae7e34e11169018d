"""A device that runs out of memory gets half as much at once, and it is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder
from regions_of import boxes_of
from torch import Tensor

from lexiseg.models import batches, loading
from lexiseg.models.batches import in_batches, is_out_of_memory
from lexiseg.models.segmenters import sam
from lexiseg.models.segmenters.sam_decoder import decode_prompts
from lexiseg.proposals.crops import embed_crops
from lexiseg.proposals.settings import CropSettings
from lexiseg.saliency.dense import DenseSimilarity
from lexiseg.saliency.gscorecam import GScoreCAM
from lexiseg.text.phrases import PhraseSet

CPU = torch.device("cpu")
PHRASE = PhraseSet("tumor", ("tumor",), ("background",))


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    batches._FITTED.clear()
    yield
    batches._FITTED.clear()


class Small:
    """Room for so many at once."""

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, [0]

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return list(items)


class SmallEncoder(FakeEncoder):
    """A fake on a device with room for so many views."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def encode_image(self, pixels: Tensor) -> Tensor:
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().encode_image(pixels)

    def encode_dense(self, pixels: Tensor) -> Tensor:
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().encode_dense(pixels)


class TestHalving:
    def test_all_items_are_worked_on_once_and_in_order(self, caplog: pytest.LogCaptureFixture) -> None:
        work = Small(3)
        with caplog.at_level(logging.WARNING, "lexiseg"):
            found = list(in_batches(list(range(20)), 16, work, what="views", device=CPU))
        assert [item for part in found for item in part] == list(range(20))
        assert work.asked[1:4] == [16, 8, 4] and set(work.asked[4:]) == {2}
        told = [record.getMessage() for record in caplog.records]
        assert told == [f"cpu has not enough memory for {n} views at once: trying {n // 2}" for n in (16, 8, 4)]

    def test_the_next_scan_begins_with_what_fitted(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(2):
            work = Small(4)
            list(in_batches(list(range(8)), 8, work, what="views", device=CPU))
        assert work.asked[1:] == [4, 4]
        assert len(caplog.records) == 1
        other = Small(8)
        list(in_batches(list(range(8)), 8, other, what="crops", device=CPU))
        assert other.asked[1:] == [8]

    def test_a_single_one_that_does_not_fit_is_an_error(self) -> None:
        with pytest.raises(torch.OutOfMemoryError):
            list(in_batches([1, 2], 2, Small(0), what="views", device=CPU))

    def test_other_errors_are_not_tried_again(self) -> None:
        calls = []

        def broken(items: Sequence[int]) -> None:
            calls.append(len(items))
            raise RuntimeError("shapes cannot be multiplied")

        with pytest.raises(RuntimeError, match="shapes"):
            list(in_batches([1, 2], 2, broken, what="views", device=CPU))
        assert calls == [2]

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (MemoryError(), True),
            (torch.OutOfMemoryError("CUDA out of memory"), True),
            (
                RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
                True,
            ),
            (RuntimeError("MPS backend out of memory (MPS allocated: 18.10 GB)"), True),
            (RuntimeError("shapes cannot be multiplied"), False),
            (ValueError("out of memory"), False),
        ],
    )
    def test_what_counts(self, error: Exception, expected: bool) -> None:
        assert is_out_of_memory(error) is expected


class TestWhoUsesIt:
    @pytest.mark.parametrize("method", [GScoreCAM(batch=12), DenseSimilarity(shifts=2, batch=4)])
    def test_a_map_is_the_same(self, method: GScoreCAM | DenseSimilarity, caplog: pytest.LogCaptureFixture) -> None:
        scan = np.random.default_rng(0).random((20, 20), np.float32)
        expected = method.explain(FakeEncoder(), scan, [PHRASE])[0].map
        found = method.explain(SmallEncoder(2), scan, [PHRASE])[0].map
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert caplog.records

    def test_crops_are_the_same(self) -> None:
        scan = np.random.default_rng(0).random((20, 20), np.float32)
        regions = boxes_of((20, 20), *((2, 3 * k, 9, 3 * k + 4) for k in range(6)))
        settings = CropSettings(batch=6)
        expected = embed_crops(FakeEncoder(), scan, regions, settings)
        found = embed_crops(SmallEncoder(2), scan, regions, settings)
        assert found.indices == expected.indices == tuple(range(6))
        torch.testing.assert_close(found.rows, expected.rows)


@pytest.mark.parametrize(("fast", "told"), [(True, 0), (False, 1)])
def test_emulated_bfloat16_is_told_and_never_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fast: bool, told: int
) -> None:
    monkeypatch.setattr(loading, "_fast_bfloat16", lambda device: fast)
    assert loading.resolve_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    assert not caplog.records
    assert loading.resolve_precision("bfloat16", CPU) == torch.bfloat16
    assert len(caplog.records) == told


def test_windows_and_boxes_of_a_segmenter_are_halved_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    segmenter: Any = loading.load_segmenter("bundled", device="cpu")
    windows = list(np.random.default_rng(0).random((5, 40, 50), np.float32))
    boxes = np.array([[5, 5, 30, 30]] * 5, np.float32)
    whole = segmenter.encode_many(windows)
    expected = segmenter.decode_many(whole, boxes)
    room = Small(2)
    embed = segmenter._embed
    monkeypatch.setattr(segmenter, "_embed", lambda batch: (room(batch), embed(batch))[1])
    monkeypatch.setattr(sam, "decode_prompts", lambda *asked, **how: (room(asked[2]), decode_prompts(*asked, **how))[1])
    with caplog.at_level(logging.WARNING):
        images = segmenter.encode_many(windows)
        found = segmenter.decode_many(images, boxes)
    told = [record.getMessage() for record in caplog.records]
    assert "trying 2" in told[0] and "windows" in told[0] and "boxes" in told[-1]
    for image, other in zip(images, whole, strict=True):
        torch.testing.assert_close(image.embedding, other.embedding, rtol=1e-3, atol=1e-4)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-2, atol=1e-2)
