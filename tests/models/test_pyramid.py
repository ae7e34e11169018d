"""The pyramid tower: fine positions, timm's interface, and loading through open_clip."""

from __future__ import annotations

import pytest
import timm
import torch

from lexiseg.models import load_encoder, pyramid  # noqa: F401
from lexiseg.models.pyramid import PyramidTower

NAMES = ("pyramid_efficientnet_lite0", "pyramid_efficientnet_lite2", "pyramid_tiny_vit_5m")


@pytest.fixture(scope="module", params=NAMES)
def tower(request: pytest.FixtureRequest) -> PyramidTower:
    torch.manual_seed(0)
    made = timm.create_model(request.param, num_classes=16, global_pool="avg")
    assert isinstance(made, PyramidTower)
    return made.eval()


def test_positions_are_eight_pixels_apart(tower: PyramidTower) -> None:
    with torch.no_grad():
        for height, width in ((64, 64), (96, 64), (72, 88)):
            assert tower.forward_features(torch.rand(2, 3, height, width)).shape == (
                2, 256, height // 8, width // 8,
            )  # fmt: skip


def test_the_embedding_is_the_projected_mean_of_its_positions(tower: PyramidTower) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = tower.forward_features(pixels)
        assert torch.allclose(tower(pixels), tower.classifier(maps.mean((2, 3))), atol=1e-5)
        assert tower.forward_head(maps, pre_logits=True).shape == (2, 256)


def test_every_weight_takes_part() -> None:
    made = timm.create_model("pyramid_efficientnet_lite0", num_classes=8)
    made(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None] == []


def test_a_position_sees_detail_and_context(tower: PyramidTower) -> None:
    """A change of one corner is felt there most, and at the far corner too."""
    pixels = torch.rand(1, 3, 256, 256)
    changed = pixels.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.no_grad():
        moved = (tower.forward_features(pixels) - tower.forward_features(changed)).abs().mean(1)[0]
    assert moved[0, 0] > 5 * moved[-1, -1] > 0


def test_the_last_stage_of_the_tiny_vit_keeps_its_stride() -> None:
    made = timm.create_model("pyramid_tiny_vit_5m", num_classes=8).eval()
    with torch.no_grad():
        stages = made.backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(s.shape[-2:]) for s in stages] == [(16, 24), (8, 12), (4, 6), (4, 6)]


def test_without_a_projection_it_returns_features(tower: PyramidTower) -> None:
    bare = timm.create_model("pyramid_efficientnet_lite0", num_classes=0)
    with torch.no_grad():
        assert bare.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 256)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_no_published_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no published weights"):
        timm.create_model(name, pretrained=True)


def test_other_pools_are_refused() -> None:
    with pytest.raises(ValueError, match="'catavgmax'"):
        timm.create_model("pyramid_efficientnet_lite0", global_pool="catavgmax")
