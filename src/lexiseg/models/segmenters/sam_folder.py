"""Build a transformers SamModel from a folder, strictly and without the network; also one with a timm tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SamConfig, SamImageProcessor, SamModel, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoderOutput

from lexiseg.errors import BrokenWeights
from lexiseg.models.blank import Blank, all_finite
from lexiseg.models.families import ModelFiles, one_line
from lexiseg.models.fpn import current_name
from lexiseg.models.from_transformers import read_tensors
from lexiseg.models.segmenters.sam_pixels import PillowProcessor
from lexiseg.models.segmenters.sam_tiny_vit import MOBILE_SAM_TOWER
from lexiseg.models.weights.int8 import unpack


class TowerSamConfig(SamConfig):  # type: ignore[misc]  # transformers is untyped to mypy
    """A SAM's configuration.

    Its `vision_config` has an `image_tower` besides, timm's name of a network with `forward_features` and
    `num_features`; `patch_size` there is the tower's stride, and what only a transformer has is idle.
    """

    model_type = "sam_tower"


class TowerVision(nn.Module):
    """A timm network behind the interface of transformers' `SamVisionEncoder`.

    Args:
        config: which network, and how many channels it gives.
    """

    def __init__(self, config: SamVisionConfig) -> None:
        super().__init__()
        # Whoever builds on the meta device fills in the weights, but a timm network may hold tables that no
        # file has.
        with torch.device("cpu"):
            self.tower = timm.create_model(
                current_name(config.image_tower), num_classes=0, num_features=config.output_channels
            )

    def forward(self, pixel_values: Tensor, **_: Any) -> SamVisionEncoderOutput:
        """Pixels (B, 3, H, W) to embeddings (B, output_channels, H / patch_size, W / patch_size)."""
        return SamVisionEncoderOutput(last_hidden_state=self.tower.forward_features(pixel_values))


class TowerSam(SamModel):  # type: ignore[misc]
    """transformers' SamModel, all but its image encoder."""

    config_class = TowerSamConfig

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> TowerSam:
        """transformers' own, for a folder on disk whose large arrays may be int8.

        Args:
            folder: config.json and model.safetensors.
            options: transformers' own.

        Raises:
            FileNotFoundError: the folder has no model.safetensors.
            ValueError: int8 weights lack their scales.
        """
        state = load_file(Path(folder) / "model.safetensors")
        unpack(state)
        config = options.pop("config", None) or cls.config_class.from_pretrained(folder)
        made: TowerSam = super().from_pretrained(None, config=config, state_dict=state, **options)
        return made

    def __init__(self, config: TowerSamConfig) -> None:
        super().__init__(config)
        self.vision_encoder = TowerVision(config.vision_config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # `from_pretrained` empties the tables that no file has, and asks here for them.
        fill = getattr(module, "init_non_persistent_buffers", None)
        if fill is not None:
            fill()


_TIED = (
    "prompt_encoder.shared_embedding.positional_embedding",
    "shared_image_embedding.positional_embedding",
)


def load_sam_folder(files: ModelFiles) -> tuple[Any, Any]:
    """Load a folder of a transformers SamModel, or of a `TowerSam`.

    Args:
        files: config.json, model.safetensors (or pytorch_model.bin with tensors only), and the image
            processor's settings (preprocessor_config.json or processor_config.json); without these, SAM's own
            for the model's input size.

    Returns:
        The SamModel in float32, whatever the checkpoint's number format, and its SamImageProcessor.

    Raises:
        BrokenWeights: the weights are truncated, or do not fit the configuration.
    """
    model = build_sam(files.config, read_tensors(files.weights), source=files.weights)
    vision = model.config.vision_config
    processor = image_processor(files.place, vision.image_size)
    if getattr(vision, "image_tower", "") == MOBILE_SAM_TOWER:
        return model, PillowProcessor(vision.image_size)
    return model, processor


def build_sam(config: Mapping[str, Any], state: dict[str, Tensor], *, source: Path) -> Any:
    """A SamModel of a configuration with the given tensors; every key and shape must fit, every value be
    finite.

    Args:
        config: a SamConfig as a mapping, or a TowerSamConfig ("model_type": "sam_tower").
        state: tensors by transformers' names; float16, bfloat16 and packed int8 become float32.
        source: named in errors.

    Raises:
        BrokenWeights: the configuration is no SAM's, or the tensors do not fit it.
    """
    image, prompt = _TIED[1], _TIED[0]
    if image in state:  # one matrix under two names, of which a file may store one
        state.setdefault(prompt, state[image])
    try:
        unpack(state)
        # On the meta device nothing is drawn at random only to be overwritten: a second and 2.5 GB less for
        # ViT-H.
        with torch.device("meta"), Blank():
            made, configured = _KINDS[config.get("model_type", "sam")]
            model = made(configured(**{key: config[key] for key in _CONFIG_KEYS if key in config}))
        model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=True, assign=True)
    except Exception as error:
        raise BrokenWeights(f"{source} does not fit its configuration: {one_line(error)}") from error
    if not all_finite(model):
        raise BrokenWeights(f"{source} holds NaN or infinite values")
    return model.eval().requires_grad_(False)


_KINDS: dict[str, tuple[Any, Any]] = {"sam": (SamModel, SamConfig), "sam_tower": (TowerSam, TowerSamConfig)}
_CONFIG_KEYS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


def default_processor(image_size: int) -> Any:
    """SAM's own preprocessing for an input of `image_size` pixels: longest side to it, zero padding, ImageNet
    mean.
    """
    square = {"height": image_size, "width": image_size}
    low = image_size // 4
    return SamImageProcessor(
        size={"longest_edge": image_size},
        pad_size=square,
        mask_size={"longest_edge": low},
        mask_pad_size={"height": low, "width": low},
    )


def image_processor(folder: Path, image_size: int) -> Any:
    """The folder's SamImageProcessor, or SAM's own where it has no settings.

    Raises:
        BrokenWeights: the settings cannot be read, or are for another input than `image_size`.
    """
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        return default_processor(image_size)
    try:
        processor = SamImageProcessor.from_pretrained(str(folder), local_files_only=True)
        longest, padded = processor.size["longest_edge"], processor.pad_size["height"]
    except Exception as error:
        raise BrokenWeights(f"the image processor's settings in {folder} cannot be read: {error}") from error
    if longest > image_size or padded != image_size:
        raise BrokenWeights(
            f"{folder}: its processor makes {padded} px inputs (longest side {longest})"
            f" and its model takes {image_size} px"
        )
    return processor
