"""Names to loaded models, and the device and number format that they run in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from lexiseg.errors import DownloadFailed, UnavailableDevice
from lexiseg.models.families import ModelFiles, load_model
from lexiseg.models.weights import hub
from lexiseg.models.weights.records import (
    Kind,
    Reference,
    is_offline,
    known_model,
    parse_reference,
    pulled_folder,
    read_record,
)
from lexiseg.settings import check_precision

if TYPE_CHECKING:
    from lexiseg.models.protocols import Encoder, Segmenter, TextSegmenter


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device of a name.

    Args:
        name: "auto" (CUDA where there is one, else the CPU), or any name torch knows: "cpu", "cuda",
            "cuda:1", "mps".

    Raises:
        UnavailableDevice: torch does not know the name, or this machine has no such device.
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnavailableDevice(f"unknown device {str(name)!r}: expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UnavailableDevice(
                f"device {str(name)!r} is not on this machine ({count} CUDA devices): use cpu or auto"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UnavailableDevice("device 'mps' is not on this machine: use cpu or auto")
    elif device.type not in ("cpu", "mps"):
        raise UnavailableDevice(f"device {str(name)!r} is not supported: expected auto, cpu, cuda, cuda:N or mps")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format of the towers' matrix products: float32 or bfloat16.

    "auto" is bfloat16 where the hardware multiplies it faster than float32 (CUDA from Ampere on, CPUs with
    AVX512-BF16 or AMX) and float32 elsewhere: emulated bfloat16 is several times slower, and a warning says so where
    it is asked for by name.  Embeddings in bfloat16 stay within a cosine of 0.9999 of float32.

    Raises:
        UsageError: the name is none of auto, float32, bfloat16.
    """
    check_precision(name)
    if name == "float32":
        return torch.float32
    if name == "bfloat16":
        if not _fast_bfloat16(device):
            logger.warning("bfloat16 is emulated on %s, several times slower than float32; use precision auto", device)
        return torch.bfloat16
    return torch.bfloat16 if _fast_bfloat16(device) else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which matrix products run in `dtype`; nothing at all for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # These two are private names of torch: an older or newer torch without them means float32.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if callable(probe))


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
        ref: "bundled"; "hf-hub:ORG/REPO" or "ORG/REPO"; "local-dir:FOLDER" or a folder (an open_clip folder;
            a CLIP, SigLIP or SigLIP 2 of transformers; BiomedCLIP under the names of its transformers port);
            "ARCHITECTURE[:TAG]" of open_clip.
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
        ref: "bundled" or "mobile-sam", which ship; "hf-hub:ORG/REPO" or "ORG/REPO" (facebook/sam-vit-base,
            wanglab/medsam-vit-base, ...); "local-dir:FOLDER" or a folder that transformers wrote; or an original
            checkpoint file (sam_vit_*.pth, mobile_sam.pt).
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


def load_text_segmenter(ref: str, **settings: Any) -> TextSegmenter:
    """Load a segmenter that reads the phrase itself: SAM 3.

    Args:
        ref: "hf-hub:ORG/REPO" or "ORG/REPO" (facebook/sam3, which is gated); "local-dir:FOLDER" or a folder that
            transformers wrote.
        settings: device, precision, revision, offline and progress, as for `load_segmenter`.

    Returns:
        A `TextSegmenter`, which is a `Segmenter` as well; its `weights` say where it comes from.

    Raises:
        UnknownModel: the name means nothing, the hub has no such model, or what lies there reads no text.
        BrokenWeights, DownloadFailed, UnavailableDevice: as for `load_segmenter`.
    """
    loaded: TextSegmenter = _load(ref, "text segmenter", **settings)
    return loaded


def _load(
    ref: str,
    family: Kind | Literal["text segmenter"],
    *,
    device: str = "auto",
    precision: str = "auto",
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> Any:
    kind: Kind = "encoder" if family == "encoder" else "segmenter"
    where = resolve_device(device)
    silent = is_offline() if offline is None else offline
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
    return load_model(files, family, device=where, precision=precision)


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
    cached = hub.cached_model(repo, kind, revision=wanted)
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
