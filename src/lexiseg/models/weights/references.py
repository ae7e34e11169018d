"""What a model's name means: bundled, a folder, a file, a hub repository, or an architecture of open_clip."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from lexiseg.errors import UnknownModel
from lexiseg.models.weights.known import Kind

HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BUNDLED_FOLDERS: dict[Kind, str] = {"encoder": "clip", "segmenter": "sam"}


@dataclass(frozen=True)
class Reference:
    """A model's name, understood.

    Attributes:
        text: the name as it was given.
        kind: what it points to.
        path: the folder or file, for bundled models, folders and files.
        repo: the hub repository, for hub models.
        architecture: open_clip's architecture and pretrained tag (maybe ""), for those.
    """

    text: str
    kind: Literal["folder", "file", "hub", "architecture"]
    path: Path | None = None
    repo: str = ""
    architecture: tuple[str, str] = ("", "")


def models_home() -> Path:
    """Where pulled models lie: LEXISEG_HOME, else `lexiseg` in XDG_CACHE_HOME or ~/.cache; `models` in it."""
    home = os.environ.get("LEXISEG_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lexiseg"
    return base.expanduser() / "models"


def pulled_folder(repo: str) -> Path:
    """The folder that `lexiseg models pull` makes for a repository, whether it exists or not."""
    return models_home() / repo.replace("/", "--")


def bundled_folder(kind: Kind) -> Path:
    """The folder of the model that ships with the package, whether it exists or not."""
    return Path(str(resources.files("lexiseg.bundled"))) / _BUNDLED_FOLDERS[kind]


def parse_reference(text: str, kind: Kind) -> Reference:
    """Understand a model's name; the network is not asked.

    Args:
        text: "bundled"; "hf-hub:ORG/REPO"; "local-dir:FOLDER"; a folder's path; for segmenters a checkpoint
            file's path; for encoders "ARCHITECTURE", "ARCHITECTURE:TAG" or "ARCHITECTURE/TAG" of open_clip;
            or "ORG/REPO" of the hub.  A path that exists wins over a repository of the same name.
        kind: what is looked for.

    Raises:
        UnknownModel: the name is none of these.
    """
    name = text.strip()
    if name == "bundled":
        folder = bundled_folder(kind)
        if not folder.is_dir():
            raise UnknownModel(f"the bundled {kind} is missing from this installation: reinstall lexiseg")
        return Reference(text, "folder", path=folder)
    if name.startswith(HUB_PREFIX):
        repo = name.removeprefix(HUB_PREFIX)
        if not _REPO.fullmatch(repo):
            raise UnknownModel(f"{text!r} does not name a hub model: expected {HUB_PREFIX}ORG/REPO")
        return Reference(text, "hub", repo=repo)
    path = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    if path.is_dir():
        return Reference(text, "folder", path=path)
    if name.startswith(FOLDER_PREFIX):
        raise UnknownModel(f"{text!r}: there is no folder {path}")
    if path.is_file():
        return Reference(text, "file", path=path)
    architecture = _architecture(name) if kind == "encoder" else None
    if architecture is not None:
        return Reference(text, "architecture", architecture=architecture)
    if _REPO.fullmatch(name):
        return Reference(text, "hub", repo=name)
    known = "bundled, hf-hub:ORG/REPO, a folder, " + (
        "an open_clip ARCHITECTURE:TAG" if kind == "encoder" else "a checkpoint file"
    )
    raise UnknownModel(f"unknown {kind} {text!r}: expected {known}; see `lexiseg models list`")


def _architecture(name: str) -> tuple[str, str] | None:
    """open_clip's architecture and pretrained tag, or None if it has no architecture of that name."""
    if not name or name.startswith((".", "/", "~")):
        return None
    import open_clip

    architectures = set(open_clip.list_models())
    for separator in (":", "/"):
        architecture, _, tag = name.partition(separator)
        if architecture in architectures:
            return architecture, tag
    return None
