"""Phrases as tokens, and where the configuration and the tokenizer of a Hugging Face text tower come from.

An open_clip folder whose text tower is a transformers model (BiomedCLIP's PubMedBERT) names that model by
its hub id, so that a plain download still reaches for the network when it is loaded.  A pull stores what is
needed in the folder; the paths are worked out when the folder is read, so that it can be moved.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from lexiseg.errors import BrokenWeights, DownloadFailed
from lexiseg.models.weights import hub

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)
# A tokenizer of transformers changes its own settings while it reads; two threads in it at once fail.
_READING = Lock()
TEXT_TOWER = "text_tower"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
# Any of these holds a vocabulary; the others only refine it.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def text_tower_source(folder: Path, name: str, *, offline: bool) -> Path:
    """A local folder with the config.json of the text tower.

    Args:
        folder: the open_clip folder.
        name: its text_cfg.hf_model_name: a path relative to the folder, or a hub id.
        offline: never ask a hub.

    Returns:
        A path inside `folder`, or inside the hub cache.

    Raises:
        DownloadFailed: it is neither in the folder nor in the cache, and cannot be fetched.
        BrokenWeights: it brings code of its own.
    """
    for inside in (folder / TEXT_TOWER, folder / name):
        if (inside / "config.json").is_file():
            return _without_code(inside)
    return _without_code(
        _from_hub(folder, name, ("config.json",), offline=offline, what="its text tower's configuration")
    )


def _without_code(folder: Path) -> Path:
    """The folder, whose configuration names no code: open_clip would have transformers ask whether to run it."""
    path = folder / "config.json"
    try:
        brings = "auto_map" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return folder  # who builds the model from it says what is wrong
    if brings:
        raise BrokenWeights(f"{path} brings code of its own (auto_map), which is never run; expected a known model")
    return folder


def tokenizer_source(folder: Path, name: str, *, offline: bool) -> Path:
    """A local folder with the tokenizer's files; arguments and errors as in `text_tower_source`."""
    for inside in (folder, folder / TEXT_TOWER, folder / name):
        if has_tokenizer(inside):
            return inside
    return _from_hub(folder, name, TOKENIZER_FILES, offline=offline, what="its tokenizer")


def _from_hub(folder: Path, name: str, files: tuple[str, ...], *, offline: bool, what: str) -> Path:
    advice = f"{folder} lacks {what} ({name})"
    if name.startswith((".", "/")) or name.count("/") > 1 or name == TEXT_TOWER:
        raise DownloadFailed(f"{advice}: pull the model again with `lexiseg models pull ID`")
    found = hub.cached_folder(name, files[0]) or next(
        (found for file in files[1:] if (found := hub.cached_folder(name, file))), None
    )
    if found is not None:
        return found
    if offline:
        raise DownloadFailed(
            f"{advice} and the hub is not asked (offline): run `lexiseg models pull ID` with a network"
        )
    return hub.fetch_to_cache(name, files)


def read_phrases(tokenizer: Any, phrases: list[str], *, name: str, padding: int | None) -> Tensor:
    """Phrases as token ids (N, L); the end of one that is too long is not read, and a log line says so.

    Args:
        tokenizer: of open_clip.
        phrases: at least one.
        name: of the model, for the log.
        padding: the token that a tower of transformers masks out: columns of it alone only cost time, and are left out.
    """
    with _READING:
        tokens: Tensor = tokenizer(phrases)
        counts = [_token_count(tokenizer, phrase) for phrase in phrases]
    for phrase, used in zip(phrases, counts, strict=True):
        if used > tokens.shape[1]:
            logger.warning(
                "%s reads %d tokens and the phrase %r has %d: its end is not read",
                name, tokens.shape[1], phrase[:60], used,
            )  # fmt: skip
    if padding is not None:
        kept = (tokens != padding).any(dim=0).nonzero()
        tokens = tokens[:, : int(kept.max()) + 1 if len(kept) else 1]
    return tokens


def _token_count(tokenizer: Any, phrase: str) -> int:
    if hasattr(tokenizer, "encode"):  # open_clip's own byte-pair tokenizer: start and end are not counted
        return len(tokenizer.encode(phrase)) + 2
    inner = getattr(tokenizer, "tokenizer", None)
    return 0 if inner is None else len(inner(phrase, truncation=False, verbose=False)["input_ids"])
