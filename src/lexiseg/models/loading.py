"""Names to loaded models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.errors import DownloadFailed, UnknownModel
from lexiseg.models.weights import hub
from lexiseg.models.weights.known import Kind, known_model
from lexiseg.models.weights.records import read_record, weights_info
from lexiseg.models.weights.references import Reference, parse_reference, pulled_folder

if TYPE_CHECKING:
    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.segmenters.sam import SamSegmenter


logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]


def load_encoder(
    ref: str = "bundled",
    *,
    device: str = "auto",
    precision: str = "auto",
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> OpenClipEncoder:
    """Load a vision-language model.

    Args:
        ref: "bundled"; "hf-hub:ORG/REPO" or "ORG/REPO"; "local-dir:FOLDER" or a folder (an open_clip folder,
            or BiomedCLIP under the names of its transformers port); "ARCHITECTURE[:TAG]" of open_clip.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bfloat16".
        revision: of a hub model: a branch, tag or commit.
        offline: True never asks the network; None follows HF_HUB_OFFLINE.
        progress: told (file, bytes done, bytes in all) while a hub model is fetched.

    Returns:
        An `Encoder`; its `weights` say where it comes from.

    Raises:
        UnknownModel: the name means nothing, or the hub has no such model.
        BrokenWeights: the weights are truncated, or do not fit the model's configuration.
        DownloadFailed: the model is not on this machine and could not be fetched.
        UnavailableDevice: the device is not on this machine.
    """
    from lexiseg.models.device import resolve_device
    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.encoders.open_clip_folder import build_model, build_tokenizer, weights_file

    where = resolve_device(device)
    silent = hub.is_offline() if offline is None else offline
    reference = parse_reference(ref, "encoder")
    if reference.kind == "architecture":
        from lexiseg.models.encoders.open_clip_folder import load_named

        model, tokenizer, info = load_named(ref, *reference.architecture, offline=silent)
        return OpenClipEncoder(model, tokenizer, name=ref, device=where, precision=precision, weights=info)
    if reference.kind == "file":
        raise UnknownModel(f"{ref} is a file: an encoder is a folder with open_clip_config.json and its weights")
    folder = _folder(reference, "encoder", revision=revision, offline=silent, progress=progress)
    model = build_model(folder, offline=silent)
    tokenizer = build_tokenizer(folder, offline=silent)
    info = weights_info(ref, weights_file(folder), repo=reference.repo, revision=revision or "")
    return OpenClipEncoder(model, tokenizer, name=ref, device=where, precision=precision, weights=info)


def load_segmenter(
    ref: str = "bundled",
    *,
    device: str = "auto",
    precision: str = "auto",
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> SamSegmenter:
    """Load a promptable segmenter.

    Args:
        ref: "bundled"; "hf-hub:ORG/REPO" or "ORG/REPO" (facebook/sam-vit-base, wanglab/medsam-vit-base, ...);
            "local-dir:FOLDER" or a folder of a transformers SamModel; or an original sam_vit_*.pth file.
        device: as for `load_encoder`, and so are the other arguments.
        precision: as for `load_encoder`.
        revision: as for `load_encoder`.
        offline: as for `load_encoder`.
        progress: as for `load_encoder`.

    Returns:
        A `Segmenter`; its `weights` say where it comes from.

    Raises:
        UnknownModel: the name means nothing, or the hub has no such model.
        BrokenWeights: the weights are truncated, or do not fit the model's configuration.
        DownloadFailed: the model is not on this machine and could not be fetched.
        UnavailableDevice: the device is not on this machine.
    """
    from lexiseg.models.device import resolve_device
    from lexiseg.models.segmenters.sam import SamSegmenter
    from lexiseg.models.segmenters.sam_checkpoint import load_sam_checkpoint
    from lexiseg.models.segmenters.sam_folder import load_sam_folder, sam_weights_file

    where = resolve_device(device)
    silent = hub.is_offline() if offline is None else offline
    reference = parse_reference(ref, "segmenter")
    if reference.kind == "file":
        assert reference.path is not None
        path = reference.path
        model, processor = load_sam_checkpoint(path)
    else:
        folder = _folder(reference, "segmenter", revision=revision, offline=silent, progress=progress)
        path = sam_weights_file(folder)
        model, processor = load_sam_folder(folder)
    info = weights_info(ref, path, repo=reference.repo, revision=revision or "")
    return SamSegmenter(model, processor, name=ref, device=where, precision=precision, weights=info)


def _folder(
    reference: Reference, kind: Kind, *, revision: str | None, offline: bool, progress: Progress | None
) -> Path:
    """The folder of a reference; a hub model is looked for where `pull` puts it, then in the hub's own
    cache.
    """
    if reference.path is not None:
        return reference.path
    repo = reference.repo
    known = known_model(repo)
    wanted = revision or (known.revision if known else "main")
    pulled = pulled_folder(repo)
    record = read_record(pulled)
    if record is not None and (revision is None or record.revision.startswith(revision)):
        return pulled
    marker = "open_clip_config.json" if kind == "encoder" else "config.json"
    cached = hub.cached_folder(repo, marker, revision=wanted)
    if cached is not None:
        return cached
    if offline:
        raise DownloadFailed(
            f"{repo} is not on this machine and the hub is not asked (offline):"
            f" run `lexiseg models pull {repo}` with a network"
        )
    from lexiseg.models.weights.download import pull

    logger.info("%s is not on this machine: fetching it to %s", repo, pulled)
    return pull(reference.text, revision=revision, progress=progress, kind=kind)
