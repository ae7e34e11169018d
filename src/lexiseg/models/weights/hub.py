"""The little that lexiseg asks of the Hugging Face hub: is it there already, and fetch it.

Nothing here imports huggingface_hub before it is needed, so that listing models stays instant.  `HF_HOME`,
`HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_TOKEN` are honoured at the time of the call.
"""

from __future__ import annotations

import os
from pathlib import Path

from lexiseg.errors import DownloadFailed, LexisegError, UnknownModel

PUBLIC = "https://huggingface.co"


def endpoint() -> str | None:
    """The hub's address where the environment names another one (HF_ENDPOINT)."""
    return os.environ.get("HF_ENDPOINT") or None


def cache_root() -> Path:
    """The folder of the hub's own cache: HF_HUB_CACHE, or `hub` in HF_HOME, or ~/.cache/huggingface/hub."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(base) / "huggingface").expanduser() / "hub"


def cached_folder(repo: str, filename: str, *, revision: str | None = None) -> Path | None:
    """The snapshot folder of a repository in the hub's cache, if it holds `filename`; the network is not
    asked.
    """
    stored = cache_root() / f"models--{repo.replace('/', '--')}"
    name = revision or "main"
    reference = stored / "refs" / name
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else name
    snapshot = stored / "snapshots" / commit
    return snapshot if (snapshot / filename).is_file() else None


def cached_model(repo: str, kind: str, *, revision: str | None = None) -> Path | None:
    """The snapshot folder of a model in the hub's cache: open_clip's layout or, of any kind, transformers'."""
    markers = ("open_clip_config.json", "config.json") if kind == "encoder" else ("config.json",)
    found = (cached_folder(repo, marker, revision=revision) for marker in markers)
    return next((folder for folder in found if folder is not None), None)


def fetch_to_cache(repo: str, files: tuple[str, ...], *, revision: str | None = None) -> Path:
    """Fetch those of `files` that a repository has into the hub's cache.

    Returns:
        The snapshot folder that holds them.

    Raises:
        DownloadFailed: the hub did not answer, or has none of the files.
        UnknownModel: the hub has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(files),
                endpoint=endpoint(),
                cache_dir=cache_root(),
            )
        )
    except Exception as error:
        raise hub_error(repo, error) from error
    if not any((folder / name).is_file() for name in files):
        raise DownloadFailed(f"{repo} holds none of {', '.join(files)}")
    return folder


def hub_error(repo: str, error: BaseException) -> LexisegError:
    """What went wrong at the hub, as one line that says what to do."""
    from huggingface_hub import errors

    text = " ".join(str(error).split()) or type(error).__name__
    reason = text if len(text) <= 160 else f"{text[:157]}..."
    pull = f"lexiseg models pull {repo}"
    if isinstance(error, errors.GatedRepoError):
        page = f"{endpoint() or PUBLIC}/{repo}"
        return DownloadFailed(f"{repo} is gated: accept its terms at {page}, set HF_TOKEN to your token, then `{pull}`")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return UnknownModel(f"the hub has no model {repo!r} that can be read (a private one needs HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownModel(f"{repo} has no such revision")
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return DownloadFailed(
            f"{repo} is not on this machine and the hub cannot be reached: run `{pull}` with a network"
        )
    return DownloadFailed(f"{repo} could not be downloaded ({reason}): try again with `{pull}`")
