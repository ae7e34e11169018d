"""The original package's Sam with the numbers of a transformers SamModel."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from checkpoints import _TIED, original_name

from lexiseg.models.segmenters.sam_folder import TowerSam


def published_sam(model: Any) -> Any:
    """`segment_anything.modeling.Sam` of any size, from a SamModel or a `TowerSam`."""
    from segment_anything import modeling

    vision, decoder = model.config.vision_config, model.config.mask_decoder_config
    prompter = model.config.prompt_encoder_config
    grid = vision.image_size // vision.patch_size
    sam = modeling.Sam(
        TowerImageEncoder(model) if isinstance(model, TowerSam) else _vit(vision),
        modeling.PromptEncoder(
            embed_dim=prompter.hidden_size,
            image_embedding_size=(grid, grid),
            input_image_size=(vision.image_size, vision.image_size),
            mask_in_chans=prompter.mask_input_channels,
        ),
        modeling.MaskDecoder(
            transformer_dim=decoder.hidden_size,
            transformer=modeling.TwoWayTransformer(
                depth=decoder.num_hidden_layers,
                embedding_dim=decoder.hidden_size,
                mlp_dim=decoder.mlp_dim,
                num_heads=decoder.num_attention_heads,
                attention_downsample_rate=decoder.attention_downsample_rate,
            ),
            num_multimask_outputs=decoder.num_multimask_outputs,
            iou_head_depth=decoder.iou_head_depth,
            iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        ),
    )
    state = {original_name(k): v for k, v in model.state_dict().items() if not k.startswith(_TIED)}
    if isinstance(model, TowerSam):  # its image encoder is there already
        state = {k: v for k, v in state.items() if not k.startswith("image_encoder.")}
        state |= {f"image_encoder.{k}": v for k, v in sam.image_encoder.state_dict().items()}
    missing = sam.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and not missing.missing_keys
    return sam.eval()


class TowerImageEncoder(torch.nn.Module):
    """The image encoder of a `TowerSam` behind the interface of the original package's."""

    def __init__(self, model: TowerSam) -> None:
        super().__init__()
        self.vision, self.img_size = model.vision_encoder, model.config.vision_config.image_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings of padded, normalised pixels."""
        embedded: torch.Tensor = self.vision(pixels).last_hidden_state
        return embedded


def _vit(vision: Any) -> Any:
    from segment_anything import modeling

    return modeling.ImageEncoderViT(
        img_size=vision.image_size,
        patch_size=vision.patch_size,
        embed_dim=vision.hidden_size,
        depth=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        mlp_ratio=vision.mlp_dim / vision.hidden_size,
        out_chans=vision.output_channels,
        qkv_bias=vision.qkv_bias,
        use_rel_pos=vision.use_rel_pos,
        window_size=vision.window_size,
        global_attn_indexes=tuple(vision.global_attn_indexes),
        norm_layer=partial(torch.nn.LayerNorm, eps=vision.layer_norm_eps),
    )
