"""Regions weighed out of one forward of the whole scan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_saliency_encoder import ColourEncoder, FakeEncoder
from regions_of import boxes_of, filled, proposal

from lexiseg.errors import UsageError
from lexiseg.proposals.crops import attend_regions, embed_crops, pool_regions
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.settings import CropSettings


def quarters() -> np.ndarray:
    """Red, green, blue and grey quarters, (64, 64, 3)."""
    scan = np.full((64, 64, 3), 0.5, np.float32)
    for k, (rows, columns) in enumerate(
        ((slice(32), slice(32)), (slice(32), slice(32, 64)), (slice(32, 64), slice(32)))
    ):
        scan[rows, columns] = np.eye(3, dtype=np.float32)[k]
    return scan


def test_each_region_is_the_mean_of_its_positions() -> None:
    found = pool_regions(
        ColourEncoder(), quarters(), boxes_of((64, 64), (0, 0, 32, 32), (32, 0, 64, 32), (0, 0, 64, 32))
    )
    assert found.indices == (0, 1, 2)
    half = torch.tensor([1.0, 1.0, 0.0]) / np.sqrt(2)
    torch.testing.assert_close(found.rows, torch.stack([*torch.eye(3)[:2], half]), atol=1e-6, rtol=0)


def test_one_forward_for_any_number_of_regions() -> None:
    encoder = FakeEncoder()
    regions = boxes_of((40, 30), *((k, k, k + 6, k + 9) for k in range(20)))
    scan = np.random.default_rng(0).random((40, 30), np.float32)
    found = embed_crops(encoder, scan, regions, CropSettings(seen="pooled"))
    assert (encoder.dense_calls, encoder.image_calls) == ([1], [])
    assert found.rows.shape == (20, encoder.dim)
    torch.testing.assert_close(found.rows.norm(dim=1), torch.ones(20))


def test_a_wide_scan_lies_in_its_letterbox() -> None:
    scan = np.zeros((32, 64, 3), np.float32)
    scan[:, :32, 0], scan[:, 32:, 1] = 1, 1
    found = pool_regions(ColourEncoder(), scan, boxes_of((32, 64), (0, 0, 32, 32), (32, 0, 64, 32)))
    torch.testing.assert_close(found.rows, torch.eye(3)[:2], atol=1e-6, rtol=0)


def test_a_region_of_one_pixel_of_a_large_scan_has_an_embedding() -> None:
    scan = np.zeros((4000, 4000, 3), np.float32)
    scan[..., 2] = 1
    mask = filled((4000, 4000), (1999, 1999, 2000, 2000))
    found = pool_regions(ColourEncoder(), scan, Proposals((4000, 4000), (proposal(mask),)))
    torch.testing.assert_close(found.rows, torch.eye(3)[2:], atol=1e-6, rtol=0)


def test_regions_are_attended_to_in_one_forward() -> None:
    encoder = FakeEncoder()
    asked: list[torch.Tensor] = []

    def encode_regions(pixels: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        asked.append(masks)
        return torch.eye(encoder.dim)[: len(masks)]

    encoder.encode_regions = encode_regions  # type: ignore[method-assign]
    scan = np.zeros((32, 64, 3), np.float32)
    found = embed_crops(
        encoder, scan, boxes_of((32, 64), (0, 0, 32, 32), (32, 0, 64, 32)), CropSettings(seen="attended")
    )
    assert found.indices == (0, 1) and torch.equal(found.rows, torch.eye(encoder.dim)[:2])
    (masks,) = asked
    assert masks.shape == (2, 32, 32)
    inside = masks > 0.5
    assert inside[0, 8:24, :16].all() and inside[1, 8:24, 16:].all() and inside.sum() == 2 * 16 * 16
    assert attend_regions(encoder, scan, Proposals((32, 64))).indices == () and len(asked) == 1


def test_no_regions() -> None:
    encoder = FakeEncoder()
    assert pool_regions(encoder, np.zeros((8, 8), np.float32), Proposals((8, 8))).indices == ()
    assert encoder.dense_calls == []


def test_another_scans_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="the proposals are of"):
        pool_regions(FakeEncoder(), np.zeros((8, 9), np.float32), boxes_of((8, 8), (0, 0, 2, 2)))


def test_bad_setting() -> None:
    with pytest.raises(UsageError, match="seen is 'pulled'; expected one of cropped, pooled, attended"):
        CropSettings(seen="pulled")
