"""The models that lexiseg knows by name, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["encoder", "segmenter"]


@dataclass(frozen=True)
class KnownModel:
    """A model of the hub that lexiseg is meant for.

    Attributes:
        id: its repository on the hub.
        kind: "encoder" (text and image into one space) or "segmenter" (prompts to masks).
        licence: as its model card says.
        megabytes: what a pull fetches, about, in 10^6 bytes.
        note: what it is, in a few words.
        revision: the branch, tag or commit that a pull takes where none is asked for.
    """

    id: str
    kind: Kind
    licence: str
    megabytes: int
    note: str
    revision: str = "main"


KNOWN_MODELS = (
    KnownModel(
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "encoder",
        "MIT",
        785,
        "ViT-B/16 and PubMedBERT on 15 M figure-caption pairs; MedCLIP-SAM's encoder",
    ),
    KnownModel("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "encoder", "MIT", 600, "general CLIP ViT-B/16"),
    KnownModel("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "encoder", "MIT", 1710, "general CLIP ViT-L/14; SaLIP's size"),
    KnownModel("timm/resnet50_clip.openai", "encoder", "MIT", 410, "CLIP ResNet-50; has dense features"),
    KnownModel("facebook/sam-vit-base", "segmenter", "Apache-2.0", 375, "SAM ViT-B"),
    KnownModel("facebook/sam-vit-large", "segmenter", "Apache-2.0", 1250, "SAM ViT-L"),
    KnownModel("facebook/sam-vit-huge", "segmenter", "Apache-2.0", 2565, "SAM ViT-H"),
    KnownModel("wanglab/medsam-vit-base", "segmenter", "Apache-2.0", 375, "SAM ViT-B fine-tuned on medical scans"),
)


def known_model(repo: str) -> KnownModel | None:
    """The entry of a repository, or None; letter case does not matter."""
    wanted = repo.lower()
    return next((model for model in KNOWN_MODELS if model.id.lower() == wanted), None)
