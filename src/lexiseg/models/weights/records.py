"""What a model's name means, where its weights come from, and the record that a folder of weights carries."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, Literal

from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.files import sha256_of

Kind = Literal["encoder", "segmenter"]
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BUNDLED: dict[Kind, dict[str, str]] = {
    "encoder": {"bundled": "clip"},
    "segmenter": {"bundled": "sam", "mobile-sam": "mobile_sam"},
}
"""The models that ship: by kind, what to ask for and the folder that holds it."""

_TRUE = {"1", "true", "yes", "on"}


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


def is_offline() -> bool:
    """Whether the environment forbids the hub (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def models_home() -> Path:
    """Where pulled models lie: LEXISEG_HOME, else `lexiseg` in XDG_CACHE_HOME or ~/.cache; `models` in it."""
    home = os.environ.get("LEXISEG_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lexiseg"
    return base.expanduser() / "models"


def pulled_folder(repo: str) -> Path:
    """The folder that `lexiseg models pull` makes for a repository, whether it exists or not."""
    return models_home() / repo.replace("/", "--")


def bundled_folder(kind: Kind, name: str = "bundled") -> Path:
    """The folder of a model that ships with the package, whether it exists or not.

    Args:
        kind: "encoder" or "segmenter".
        name: one of `BUNDLED[kind]`.
    """
    return Path(str(resources.files("lexiseg.bundled"))) / BUNDLED[kind][name]


def parse_reference(text: str, kind: Kind) -> Reference:
    """Understand a model's name; the network is not asked.

    Args:
        text: a name of `BUNDLED`; "hf-hub:ORG/REPO"; "local-dir:FOLDER"; a folder's path; for segmenters a checkpoint
            file's path; for encoders "ARCHITECTURE", "ARCHITECTURE:TAG" or "ARCHITECTURE/TAG" of open_clip;
            or "ORG/REPO" of the hub.  A path that exists wins over a repository of the same name.
        kind: what is looked for.

    Raises:
        UnknownModel: the name is none of these.
    """
    name = text.strip()
    if name in BUNDLED[kind]:
        folder = bundled_folder(kind, name)
        if not folder.is_dir():
            raise UnknownModel(f"the {kind} {name!r} is missing from this installation: reinstall lexiseg")
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
    known = f"{', '.join(BUNDLED[kind])}, hf-hub:ORG/REPO, a folder, " + (
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
        gated: its terms must be accepted on the hub before it can be fetched.
    """

    id: str
    kind: Kind
    licence: str
    megabytes: int
    note: str
    revision: str = "main"
    gated: bool = False


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
    KnownModel(
        "google/medsiglip-448",
        "encoder",
        "Health AI Developer Foundations terms",
        3510,
        "SigLIP at 448 px on X-ray, skin, fundus, pathology, CT and MRI slices",
        gated=True,
    ),
    KnownModel("flaviagiammarino/pubmed-clip-vit-base-patch32", "encoder", "MIT", 605, "CLIP ViT-B/32 tuned on ROCO"),
    KnownModel("facebook/metaclip-b16-fullcc2.5b", "encoder", "CC-BY-NC-4.0", 600, "MetaCLIP ViT-B/16, general"),
    KnownModel("google/siglip2-base-patch16-224", "encoder", "Apache-2.0", 1500, "SigLIP 2 ViT-B/16, general"),
    KnownModel("timm/resnet50_clip.openai", "encoder", "MIT", 410, "CLIP ResNet-50; has dense features"),
    KnownModel("facebook/sam-vit-base", "segmenter", "Apache-2.0", 375, "SAM ViT-B"),
    KnownModel("facebook/sam-vit-large", "segmenter", "Apache-2.0", 1250, "SAM ViT-L"),
    KnownModel("facebook/sam-vit-huge", "segmenter", "Apache-2.0", 2565, "SAM ViT-H"),
    KnownModel("facebook/sam2.1-hiera-tiny", "segmenter", "Apache-2.0", 156, "SAM 2.1 Hiera-T, with memory"),
    KnownModel("facebook/sam2.1-hiera-large", "segmenter", "Apache-2.0", 898, "SAM 2.1 Hiera-L, with memory"),
    KnownModel("yonigozlan/EdgeTAM-hf", "segmenter", "Apache-2.0", 56, "EdgeTAM, a small SAM 2"),
    KnownModel("syscv-community/sam-hq-vit-base", "segmenter", "Apache-2.0", 380, "SAM-HQ ViT-B, finer outlines"),
    KnownModel(
        "facebook/sam3",
        "segmenter",
        "SAM License",
        3440,
        "SAM 3: reads the phrase itself; its tracker draws clicks",
        gated=True,
    ),
    KnownModel("wanglab/medsam-vit-base", "segmenter", "Apache-2.0", 375, "SAM ViT-B fine-tuned on medical scans"),
)


def known_model(repo: str) -> KnownModel | None:
    """The entry of a repository, or None; letter case does not matter."""
    wanted = repo.lower()
    return next((model for model in KNOWN_MODELS if model.id.lower() == wanted), None)


RECORD_NAME = "lexiseg_weights.json"


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
        if leaving := next((name for name in files if _leaves(name)), ""):
            raise ValueError(f"{leaving!r} is no file of the folder")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BrokenWeights(f"{path} is not a weights record ({error}): pull the model again") from error
    return FolderRecord(files=files, sources=sources, **texts)


def _leaves(name: str) -> bool:
    return PurePath(name).is_absolute() or ".." in PurePath(name).parts


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
