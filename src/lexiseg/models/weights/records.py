"""Where weights come from: provenance, checksums, and the record that a folder carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg.errors import BrokenWeights
from lexiseg.models.weights.references import known_model

RECORD_NAME = "lexiseg_weights.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsInfo:
    """Provenance of a loaded model, for run.json.

    Attributes:
        name: how the model was asked for.
        path: the file that holds the weights.
        sha256: of that file, 64 hexadecimal digits.
        repo: the hub repository it came from; "" where that is not known.
        revision: the commit there; "" where that is not known.
        licence: as the record, the table of known models or the model card has it; "" where nobody says.
    """

    name: str
    path: Path
    sha256: str
    repo: str = ""
    revision: str = ""
    licence: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain strings for JSON; the path is the file's name alone, since folders name people and
        machines.
        """
        return {
            "name": self.name,
            "file": self.path.name,
            "sha256": self.sha256,
            "repo": self.repo,
            "revision": self.revision,
            "licence": self.licence,
        }


@dataclass(frozen=True)
class FolderRecord:
    """What `lexiseg_weights.json` in a model folder says.

    Attributes:
        files: sha256 of each file, by its path inside the folder.
        repo: the hub repository, or "" for weights made here.
        revision: the commit there.
        licence: an SPDX-like name.
        sources: other repositories that files came from (the text tower's), each with its revision.
    """

    files: Mapping[str, str]
    repo: str = ""
    revision: str = ""
    licence: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits; read in pieces, so that its size does not matter."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_record(folder: Path) -> FolderRecord | None:
    """The folder's record, or None where it has none.

    Raises:
        BrokenWeights: the record is there but cannot be read.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): str(value) for name, value in raw["files"].items()}
        sources = {str(name): str(value) for name, value in raw.get("sources", {}).items()}
        texts = {key: str(raw.get(key) or "") for key in ("repo", "revision", "licence")}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BrokenWeights(f"{path} is not a weights record ({error}): pull the model again") from error
    return FolderRecord(files=files, sources=sources, **texts)


def write_record(
    folder: Path,
    *,
    repo: str = "",
    revision: str = "",
    licence: str = "",
    sources: Mapping[str, str] | None = None,
) -> FolderRecord:
    """Record the sha256 of every file of a folder (hidden ones and the record itself left out)."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    files = {name: sha256_of(folder / name) for name in names if name != RECORD_NAME}
    record = FolderRecord(files, repo, revision, licence, dict(sources or {}))
    content = {
        "repo": repo,
        "revision": revision,
        "licence": licence,
        "sources": dict(record.sources),
        "files": files,
    }
    (folder / RECORD_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return record


def weights_info(name: str, path: Path, *, repo: str = "", revision: str = "") -> WeightsInfo:
    """Provenance of the weights in `path`: from its folder's record, else computed.

    The sha256 is that of the file as it lies there now, computed once per file and session.
    """
    record = read_record(path.parent)
    repo = (record.repo if record else "") or repo
    revision = (record.revision if record else "") or revision
    known = known_model(repo) if repo else None
    licence = (record.licence if record else "") or (known.licence if known else "")
    return WeightsInfo(name, path, _cached_sha256(path), repo, revision, licence)


_hashes: dict[tuple[str, int, int], str] = {}


def _cached_sha256(path: Path) -> str:
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256_of(path)
    return _hashes[key]
