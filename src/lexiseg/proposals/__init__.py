"""Proposals: every region that SAM can outline without being told where, and which of them fit a phrase."""

from lexiseg.proposals.crops import (
    VISUAL_PROMPTS,
    Crop,
    CropEmbeddings,
    CropSettings,
    embed_crops,
    make_crops,
)
from lexiseg.proposals.files import (
    proposals_from_record,
    proposals_record,
    read_proposals,
    write_proposals,
)
from lexiseg.proposals.generator import propose
from lexiseg.proposals.picture import proposals_picture
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.proposals.retrieval import Match, Matches, RetrievalSettings, retrieve, shared
from lexiseg.proposals.settings import ProposalSettings

__all__ = [
    "VISUAL_PROMPTS",
    "Crop",
    "CropEmbeddings",
    "CropSettings",
    "Match",
    "Matches",
    "Proposal",
    "ProposalSettings",
    "Proposals",
    "RetrievalSettings",
    "embed_crops",
    "make_crops",
    "proposals_from_record",
    "proposals_picture",
    "proposals_record",
    "propose",
    "read_proposals",
    "retrieve",
    "shared",
    "write_proposals",
]
