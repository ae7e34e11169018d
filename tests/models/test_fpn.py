"""The FPN tower: fine positions, timm's interface, and loading through open_clip."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch.nn.functional import normalize

from lexiseg.models.fpn import EnsembleTower, FPNTower

NAMES = (
    "fpn_efficientnet_lite0",
    "fpn_efficientnet_lite2",
    "fpn_tiny_vit_5m",
    "fpn_tiny_vit_5m_stem",
    "fpn_sam2_hiera_tiny",
)
ENSEMBLES = {"fpn_lite2_tiny_vit_5m": 2, "fpn_lite2_tiny_vit_5m_hiera_tiny": 3}


@pytest.fixture(scope="module", params=NAMES)
def tower(request: pytest.FixtureRequest) -> FPNTower:
    torch.manual_seed(0)
    made = timm.create_model(request.param, num_classes=16, global_pool="avg")
    assert isinstance(made, FPNTower)
    return made.eval()


def test_positions_are_eight_pixels_apart(tower: FPNTower) -> None:
    whole_windows = hasattr(tower.backbone, "model")  # Hiera's positions have sides of multiples of 32
    with torch.no_grad():
        for height, width in ((64, 64), (96, 64), (96, 128) if whole_windows else (72, 88)):
            assert tower.forward_features(torch.rand(2, 3, height, width)).shape == (
                2, 256, height // 8, width // 8,
            )  # fmt: skip


def test_the_embedding_is_the_projected_mean_of_its_positions(tower: FPNTower) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = tower.forward_features(pixels)
        assert torch.allclose(tower(pixels), tower.classifier(maps.mean((2, 3))), atol=1e-5)
        assert tower.forward_head(maps, pre_logits=True).shape == (2, 256)


def test_every_weight_takes_part() -> None:
    made = timm.create_model("fpn_efficientnet_lite0", num_classes=8)
    made(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None] == []


def test_a_position_sees_detail_and_context(tower: FPNTower) -> None:
    """A change of one corner is felt there most, and at the far corner too."""
    pixels = torch.rand(1, 3, 256, 256)
    changed = pixels.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.no_grad():
        moved = (tower.forward_features(pixels) - tower.forward_features(changed)).abs().mean(1)[0]
    assert moved[0, 0] > 5 * moved[-1, -1] > 0


def test_the_last_stage_of_the_tiny_vit_keeps_its_stride() -> None:
    made = timm.create_model("fpn_tiny_vit_5m", num_classes=8).eval()
    with torch.no_grad():
        stages = made.backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(s.shape[-2:]) for s in stages] == [(16, 24), (8, 12), (4, 6), (4, 6)]


def test_no_position_of_hieras_third_stage_sees_padding() -> None:
    """Its windows would be wider than a scan's 16 positions; stages before it have windows that fit."""
    made = timm.create_model("fpn_sam2_hiera_tiny", num_classes=8).eval()
    blocks = made.backbone.model.blocks
    seen: list[tuple[int, ...]] = []
    for block in blocks:
        block.attn.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[1:3])))
    with torch.no_grad():
        made.forward_features(torch.rand(1, 3, 256, 256))
    assert seen == [(8, 8), (8, 8), (4, 4), (4, 4)] + [(16, 16)] * 6


def test_without_a_projection_it_returns_features(tower: FPNTower) -> None:
    bare = timm.create_model("fpn_efficientnet_lite0", num_classes=0)
    with torch.no_grad():
        assert bare.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 256)


@pytest.fixture(scope="module", params=ENSEMBLES)
def ensemble(request: pytest.FixtureRequest) -> EnsembleTower:
    """Not to be changed; its shares are those it begins with."""
    torch.manual_seed(0)
    made = timm.create_model(request.param, num_classes=24, global_pool="avg")
    assert isinstance(made, EnsembleTower)
    assert len(made.towers) == ENSEMBLES[request.param]
    return made.eval()


class TestEnsemble:
    def test_they_begin_with_the_same_share(self, ensemble: EnsembleTower) -> None:
        assert torch.allclose(ensemble.shares, torch.full_like(ensemble.shares, 1 / len(ensemble.towers)))

    def test_each_tower_has_its_part_and_its_share(self, ensemble: EnsembleTower) -> None:
        ensemble = copy.deepcopy(ensemble)
        shares = [0.36, 0.64] if len(ensemble.towers) == 2 else [0.36, 0.48, 0.16]
        ensemble.shares.copy_(torch.tensor(shares))
        pixels = torch.rand(2, 3, 64, 96)
        with torch.no_grad():
            embedding, each = ensemble(pixels), [tower(pixels) for tower in ensemble.towers]
        lengths = (0.6, 0.8) if len(each) == 2 else (0.6, 0.48**0.5, 0.4)
        expected = torch.cat([n * normalize(e, dim=1) for n, e in zip(lengths, each, strict=True)], 1)
        assert embedding.shape == (2, 24) and torch.allclose(embedding, expected, atol=1e-5)
        assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)

    def test_a_saliency_may_read_the_maps_of_all(self, ensemble: EnsembleTower) -> None:
        (layer,) = ensemble.feature_info
        found = []
        handle = ensemble.get_submodule(str(layer["module"])).register_forward_hook(lambda *a: found.append(a[-1]))
        with torch.no_grad():
            maps = ensemble.forward_features(torch.rand(1, 3, 64, 96))
        handle.remove()
        assert maps.shape == (1, layer["num_chs"], 8, 12) and torch.equal(found[0], maps)

    def test_every_weight_takes_part(self, ensemble: EnsembleTower) -> None:
        ensemble = copy.deepcopy(ensemble).train()
        (ensemble(torch.rand(2, 3, 64, 64)) * torch.rand(24)).sum().backward()
        assert [n for n, p in ensemble.named_parameters() if p.grad is None] == []

    def test_without_a_projection_it_returns_features(self, ensemble: EnsembleTower) -> None:
        bare = copy.deepcopy(ensemble)
        bare.reset_classifier(0)
        with torch.no_grad():
            assert bare(torch.rand(1, 3, 64, 64)).shape == (1, 256 * len(bare.towers))
        assert len(list(bare.get_classifier().parameters())) == 0

    def test_a_length_that_does_not_divide_is_refused(self, ensemble: EnsembleTower) -> None:
        with pytest.raises(ValueError, match=f"num_classes is 7; expected a multiple of {len(ensemble.towers)} towers"):
            ensemble.reset_classifier(7)


@pytest.mark.parametrize("name", (*NAMES, *ENSEMBLES))
def test_there_are_no_published_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no published weights"):
        timm.create_model(name, pretrained=True)


def test_other_pools_are_refused() -> None:
    with pytest.raises(ValueError, match="'catavgmax'"):
        timm.create_model("fpn_efficientnet_lite0", global_pool="catavgmax")
