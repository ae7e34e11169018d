"""TinyViT as MobileSAM has it for eyes: timm's network with SAM's neck (Zhang et al., arXiv 2306.14289).

Importing this module makes the name `sam_tiny_vit_5m` known to timm, and so to a `TowerSam`'s configuration.
"""

from __future__ import annotations

from typing import Any

from timm.layers import LayerNorm2d
from timm.models import register_model
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

_SIZES: dict[str, Any] = {
    "embed_dims": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 5, 10),
    "window_sizes": (7, 7, 14, 7),
}


class SamTinyViT(nn.Module):
    """`tiny_vit_5m_224` at a stride of 16, and two convolutions to the decoder's channels.

    Its windows make any input do whose sides are multiples of 16.

    Args:
        num_features: channels of what `forward_features` returns.
    """

    def __init__(self, num_features: int = 256) -> None:
        super().__init__()
        # By its class: MobileSAM's own package, where it is imported, puts its networks under timm's names.
        trunk = TinyVit(**_SIZES, num_classes=0, drop_path_rate=0.0)
        self.patch_embed, self.stages = trunk.patch_embed, trunk.stages
        self.stages[3].downsample.conv2.conv.stride = (1, 1)  # ImageNet's TinyViT halves its map once more
        width = trunk.num_features
        self.neck = nn.Sequential(
            nn.Conv2d(width, num_features, 1, bias=False),
            LayerNorm2d(num_features, eps=1e-6),
            nn.Conv2d(num_features, num_features, 3, padding=1, bias=False),
            LayerNorm2d(num_features, eps=1e-6),
        )
        self.num_features = num_features

    def init_non_persistent_buffers(self) -> None:
        """Fill the tables that no file has, for whoever emptied them."""
        for module in self.stages.modules():
            fill = getattr(module, "init_non_persistent_buffers", None)
            if fill is not None:
                fill()

    def forward_features(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), normalised, to a map (B, num_features, H / 16, W / 16)."""
        found: Tensor = self.neck(self.stages(self.patch_embed(x)))
        return found


def sam_tiny_vit_5m(pretrained: bool = False, **options: Any) -> SamTinyViT:
    """MobileSAM's image encoder (6.1 M weights)."""
    if pretrained:
        raise ValueError("sam_tiny_vit_5m has no weights by this name: load mobile_sam.pt")
    return SamTinyViT(options.get("num_features", 256))


register_model(sam_tiny_vit_5m)
MOBILE_SAM_TOWER = sam_tiny_vit_5m.__name__
"""What a configuration calls it."""
