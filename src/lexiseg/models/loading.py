"""Names to loaded models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import DownloadFailed
from lexiseg.models.families import ModelFiles, load_model
from lexiseg.models.weights import hub
from lexiseg.models.weights.records import read_record
from lexiseg.models.weights.references import Kind, Reference, known_model, parse_reference, pulled_folder

if TYPE_CHECKING:
    from lexiseg.models.protocols import Encoder, Segmenter


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
) -> Encoder:
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
        UnknownModel: the name means nothing, the hub has no such model, or no family knows what lies there.
        BrokenWeights: the weights are truncated, or do not fit the model's configuration.
        DownloadFailed: the model is not on this machine and could not be fetched.
        UnavailableDevice: the device is not on this machine.
    """
    loaded: Encoder = _load(
        ref,
        "encoder",
        device=device,
        precision=precision,
        revision=revision,
        offline=offline,
        progress=progress,
    )
    return loaded


def load_segmenter(
    ref: str = "bundled",
    *,
    device: str = "auto",
    precision: str = "auto",
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> Segmenter:
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
        UnknownModel: the name means nothing, the hub has no such model, or no family knows what lies there.
        BrokenWeights: the weights are truncated, or do not fit the model's configuration.
        DownloadFailed: the model is not on this machine and could not be fetched.
        UnavailableDevice: the device is not on this machine.
    """
    loaded: Segmenter = _load(
        ref,
        "segmenter",
        device=device,
        precision=precision,
        revision=revision,
        offline=offline,
        progress=progress,
    )
    return loaded


def _load(
    ref: str,
    kind: Kind,
    *,
    device: str,
    precision: str,
    revision: str | None,
    offline: bool | None,
    progress: Progress | None,
) -> Any:
    from lexiseg.models.device import resolve_device

    where = resolve_device(device)
    silent = hub.is_offline() if offline is None else offline
    reference = parse_reference(ref, kind)
    path = None
    if reference.kind != "architecture":
        path = _path(reference, kind, revision=revision, offline=silent, progress=progress)
    files = ModelFiles(
        ref,
        path,
        architecture=reference.architecture,
        repo=reference.repo,
        revision=revision or "",
        offline=silent,
    )
    return load_model(files, kind, device=where, precision=precision)


def _path(reference: Reference, kind: Kind, *, revision: str | None, offline: bool, progress: Progress | None) -> Path:
    """Where a reference leads; a hub model is looked for where `pull` puts it, then in the hub's own cache."""
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
