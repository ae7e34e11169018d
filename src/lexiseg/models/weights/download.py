"""Download a model into a folder that works with the network unplugged."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.errors import DownloadFailed, LexisegError, UnknownModel, UsageError
from lexiseg.files import sha256_of
from lexiseg.models.encoders.open_clip_text import TEXT_TOWER, TOKENIZER_FILES, has_tokenizer
from lexiseg.models.weights import hub
from lexiseg.models.weights.records import (
    HUB_PREFIX,
    Kind,
    is_offline,
    known_model,
    pulled_folder,
    read_record,
    write_record,
)

logger = logging.getLogger(__name__)

_ENCODER_CONFIG = "open_clip_config.json"
# The first of these that the repository has is fetched; the others hold the same weights again.
_ENCODER_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_PAPERS = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _RemoteFile:
    """A file as the hub describes it: its size in bytes, and its sha256 (large files) or git blob id (small
    ones).
    """

    name: str
    size: int | None
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class _Repository:
    id: str
    commit: str
    licence: str
    files: dict[str, _RemoteFile]


def pull(
    ref: str,
    *,
    out: Path | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    kind: Kind | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a hub model, its text tower's configuration and its tokenizer included.

    Files are fetched beside the folder and checked against the sizes and checksums that the hub states; the
    folder appears when all of it is there.  What a broken download left is taken up by the next one.

    Args:
        ref: "ORG/REPO" or "hf-hub:ORG/REPO".
        out: the folder to make; by default the one where `load_encoder` and `load_segmenter` look.
        revision: branch, tag or commit; by default the known model's, or "main".
        endpoint: the hub's address; by default HF_ENDPOINT, or the public hub.
        kind: "encoder" or "segmenter"; by default what the repository's files say.
        progress: told (file, bytes done, bytes in all) as each file is finished.

    Returns:
        The folder, with a record of every file's sha256, the revision and the licence.

    Raises:
        UsageError: `out` exists and is not a folder that an earlier pull made.
        UnknownModel: not a hub model's name, no such repository or revision, or no model that lexiseg can
            load.
        DownloadFailed: the hub could not be reached, refused, or sent something else than it promised.
    """
    repo = ref.strip().removeprefix(HUB_PREFIX)
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UnknownModel(f"{ref!r} is not a hub model: expected ORG/REPO; see `lexiseg models list`")
    if is_offline():
        raise DownloadFailed(f"{repo} cannot be pulled while HF_HUB_OFFLINE is set: unset it and pull again")
    target = Path(out) if out is not None else pulled_folder(repo)
    if target.exists() and read_record(target) is None and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and was not made by a pull: name another folder")
    known = known_model(repo)
    address = endpoint or hub.endpoint()
    source = _describe(repo, revision or (known.revision if known else "main"), address)
    wanted = _wanted(source, kind)
    staging = target.parent / f".{target.name}.partial"
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadFailed(f"{target.parent} cannot be written ({error.strerror}): name another folder") from error
    for file in wanted:
        _fetch(source, file, staging, address, progress)
    sources = _complete_text_tower(staging, address, progress) if _ENCODER_CONFIG in source.files else {}
    shutil.rmtree(staging / ".cache", ignore_errors=True)  # the hub client's own bookkeeping
    licence = source.licence or (known.licence if known else "")
    write_record(staging, repo=repo, revision=source.commit, licence=licence, sources=sources)
    if target.exists():
        shutil.rmtree(target)
    staging.replace(target)
    logger.info("%s at %s is in %s", repo, source.commit[:12], target)
    return target


def _describe(repo: str, revision: str, endpoint: str | None) -> _Repository:
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, files_metadata=True)
    except Exception as error:
        raise hub.hub_error(repo, error) from error
    files = {}
    for sibling in info.siblings or ():
        large: Any = sibling.lfs
        files[sibling.rfilename] = _RemoteFile(
            sibling.rfilename,
            sibling.size,
            getattr(large, "sha256", None),
            None if large else sibling.blob_id,
        )
    card: Any = info.card_data
    return _Repository(repo, info.sha or revision, str(getattr(card, "license", None) or ""), files)


def _wanted(source: _Repository, kind: Kind | None) -> list[_RemoteFile]:
    """The files to fetch, settings before weights, so that a wrong repository is found out at once."""
    files = source.files
    reads = any(name in files for name in TOKENIZER_FILES)
    encoder = kind == "encoder" or (kind is None and (_ENCODER_CONFIG in files or reads))
    # An encoder as transformers writes it has the files of a segmenter, and a tokenizer.
    ported = encoder and _ENCODER_CONFIG not in files
    needed = _ENCODER_CONFIG if encoder and not ported else "config.json"
    weights = _ENCODER_WEIGHTS if encoder and not ported else _TRANSFORMERS_WEIGHTS
    found = [name for name in weights if name in files][:1]
    if needed not in files or not found or (ported and not reads):
        what = "an encoder of open_clip or transformers" if encoder else "a segmenter of transformers"
        wanted = f"{_ENCODER_CONFIG}, or config.json and a tokenizer," if encoder else "config.json"
        raise UnknownModel(f"{source.id} is not {what}: expected {wanted} and one of {', '.join(weights)}")
    settings = (needed, *TOKENIZER_FILES, *(() if needed == _ENCODER_CONFIG else _SETTINGS))
    names = [*settings, *_PAPERS, *found]
    return [files[name] for name in dict.fromkeys(names) if name in files]


def _fetch(
    source: _Repository, file: _RemoteFile, folder: Path, endpoint: str | None, progress: Progress | None
) -> None:
    """Fetch one file into `folder`, or keep the one an earlier pull left there if it is whole."""
    from huggingface_hub import hf_hub_download

    path = folder / file.name
    if not (path.is_file() and _matches(path, file)):
        try:
            hf_hub_download(source.id, file.name, revision=source.commit, local_dir=folder, endpoint=endpoint)
        except Exception as error:
            path.unlink(missing_ok=True)
            raise hub.hub_error(source.id, error) from error
        if not _matches(path, file):
            size = path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
            raise DownloadFailed(
                f"{source.id}: {file.name} came with {size} bytes and does not match what the hub states"
                f" ({file.size} bytes): try again with `lexiseg models pull {source.id}`"
            )
    if progress is not None:
        size = path.stat().st_size
        progress(file.name, size, file.size or size)


def _matches(path: Path, file: _RemoteFile) -> bool:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return False
    if file.sha256 is not None:
        return sha256_of(path) == file.sha256
    if file.blob is not None:
        # git's name of a file's content, which is all that the hub states for small files
        return (
            hashlib.sha1(f"blob {size}\0".encode() + path.read_bytes(), usedforsecurity=False).hexdigest() == file.blob
        )
    return True


def _complete_text_tower(folder: Path, endpoint: str | None, progress: Progress | None) -> dict[str, str]:
    """Add what a Hugging Face text tower would fetch when it is loaded, and point the configuration at it.

    Returns:
        The repositories that were fetched from, each with its revision.
    """
    path = folder / _ENCODER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadFailed(f"{_ENCODER_CONFIG} from the hub is not an open_clip configuration ({error})") from error
    sources: dict[str, str] = {}
    tower, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    if tower:
        inside = folder / TEXT_TOWER
        inside.mkdir(exist_ok=True)
        sources |= _fetch_some(tower, ("config.json",), inside, endpoint, progress)
        text["hf_model_name"] = TEXT_TOWER
        text["hf_model_pretrained"] = False
    if tokenizer and not has_tokenizer(folder):
        sources |= _fetch_some(tokenizer, TOKENIZER_FILES, folder, endpoint, progress)
    if tokenizer:
        text["hf_tokenizer_name"] = "."
    if sources:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return sources


def _fetch_some(
    repo: str, names: Iterable[str], folder: Path, endpoint: str | None, progress: Progress | None
) -> dict[str, str]:
    try:
        source = _describe(repo, "main", endpoint)
    except LexisegError as error:
        raise DownloadFailed(f"the text tower cannot be completed: {error}") from error
    for name in names:
        if name in source.files:
            _fetch(source, source.files[name], folder, endpoint, progress)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return {repo: source.commit}
