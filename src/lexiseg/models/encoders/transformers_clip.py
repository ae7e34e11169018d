"""CLIP, SigLIP and SigLIP 2 as transformers writes them: PubMedCLIP, MetaCLIP, MedSigLIP and their kin.

The text tower is transformers' own.  The image tower is built as a timm ViT with the same numbers
(`transformers_vision`), so that saliency reads it as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from lexiseg.errors import BrokenWeights
from lexiseg.models.encoders.open_clip_text import has_tokenizer
from lexiseg.models.encoders.transformers_vision import Visual, make_visual
from lexiseg.models.families import one_line

if TYPE_CHECKING:
    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.families import ModelFiles

NAME = "CLIP of transformers (config.json of model_type 'clip', 'metaclip_2', 'siglip' or 'siglip2')"
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_KINDS = {
    "clip": ("CLIP", _CLIP),
    "metaclip_2": ("MetaClip2", _CLIP),
    "siglip": ("Siglip", _HALF),
    "siglip2": ("Siglip2", _HALF),
}


def recognises(files: ModelFiles) -> bool:
    """A folder of transformers' CLIPModel, MetaClip2Model, SiglipModel or Siglip2Model."""
    return files.config.get("model_type") in _KINDS


def load(files: ModelFiles, *, device: torch.device, precision: str) -> OpenClipEncoder:
    """The encoder of a folder."""
    import transformers

    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.from_transformers import load_folder, pixel_statistics

    kind, statistics = _KINDS[files.config["model_type"]]
    model = load_folder(
        files,
        getattr(transformers, f"{kind}Model"),
        getattr(transformers, f"{kind}Config"),
        rename=lambda name: name.removeprefix("module."),
        idle=(r"embeddings\.position_ids$",),
    )
    mean, std = pixel_statistics(files, *statistics)
    return OpenClipEncoder(
        TwoTowers(model, make_visual(model, mean=mean, std=std)),
        _tokenizer(files, int(model.config.text_config.max_position_embeddings)),
        name=files.ref,
        device=device,
        precision=precision,
        weights=files.info,
    )


class TwoTowers(nn.Module):
    """A model of transformers with open_clip's interface.

    Args:
        model: a CLIPModel, SiglipModel or Siglip2Model; its text tower is kept.
        visual: its image tower as a timm ViT.
    """

    def __init__(self, model: Any, visual: Visual) -> None:
        super().__init__()
        self.visual = visual
        self.words = model.text_model
        self.text_projection = getattr(model, "text_projection", nn.Identity())
        self.logit_scale = nn.Parameter(model.logit_scale.detach().reshape(()).clone())
        if getattr(model, "logit_bias", None) is not None:
            self.logit_bias = nn.Parameter(model.logit_bias.detach().reshape(()).clone())

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), of any length."""
        return cast(Tensor, self.visual(pixels))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L) to embeddings (N, E), of any length."""
        return cast(Tensor, self.text_projection(self.words(input_ids=tokens).pooler_output))


def _tokenizer(files: ModelFiles, length: int) -> Any:
    """Phrases -> token ids (N, length), padded to the full length, as these towers were trained.

    Raises:
        BrokenWeights: the folder has no tokenizer, or it cannot be read.
    """
    from open_clip.tokenizer import HFTokenizer

    if not has_tokenizer(files.place):
        raise BrokenWeights(f"{files.place} has no tokenizer: expected tokenizer.json, vocab.json or spiece.model")
    try:
        made = HFTokenizer(str(files.place), context_length=length, local_files_only=True, trust_remote_code=False)
        one, other = made(["left lung", "breast tumor"])
    except Exception as error:
        raise BrokenWeights(f"the tokenizer in {files.place} cannot be read: {one_line(error)}") from error
    if torch.equal(one, other):
        # As where the vocabulary is another's: every word is unknown, and nothing says so.
        raise BrokenWeights(f"the tokenizer in {files.place} reads two different phrases alike: its files do not fit")
    return made
