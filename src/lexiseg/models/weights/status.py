"""What is here and what is known: `lexiseg models list` and `lexiseg models check`.  Nothing here imports
torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lexiseg.errors import UnknownModel
from lexiseg.files import sha256_of
from lexiseg.models.encoders.open_clip_text import TOKENIZER_FILES
from lexiseg.models.weights import hub
from lexiseg.models.weights.records import (
    BUNDLED,
    KNOWN_MODELS,
    FolderRecord,
    Kind,
    KnownModel,
    bundled_folder,
    known_model,
    models_home,
    parse_reference,
    pulled_folder,
    read_record,
)

State = Literal["bundled", "pulled", "hub cache", "not here"]
_KINDS: tuple[Kind, ...] = ("encoder", "segmenter")
_NOTES = {
    "bundled": "ships with lexiseg; small, for trying it out",
    "mobile-sam": "ships with lexiseg; MobileSAM, of photographs, draws whatever is clicked or boxed",
}
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True)
class ModelStatus:
    """A line of `lexiseg models list`.

    Attributes:
        id: what to hand to `--encoder` or `--segmenter`.
        kind: "encoder" or "segmenter".
        state: where it is.
        revision: the commit, where one is recorded.
        sha256: of the weights file, where one is recorded.
        licence: "" where nobody says.
        megabytes: on this disk, or what a pull would fetch.
        path: its folder; None where it is not here.
        note: what it is, in a few words.
        gated: its terms must be accepted on the hub before it can be fetched.
    """

    id: str
    kind: Kind
    state: State
    revision: str
    sha256: str
    licence: str
    megabytes: float
    path: Path | None
    note: str
    gated: bool = False


@dataclass(frozen=True)
class FileCheck:
    """One file of `lexiseg models check`: its sha256 as recorded ("" if it is not) and as found ("" if it is
    gone).
    """

    name: str
    recorded: str
    found: str

    @property
    def ok(self) -> bool:
        """The file is there and is what was recorded, or nothing was recorded for it."""
        return bool(self.found) and self.recorded in ("", self.found)


@dataclass(frozen=True)
class ModelCheck:
    """The outcome of `check_model`.

    Attributes:
        id: the model's name.
        path: its folder or file.
        recorded: whether there are checksums to compare with; without them nothing can be wrong but absence.
        files: each file's outcome.
    """

    id: str
    path: Path
    recorded: bool
    files: tuple[FileCheck, ...]

    @property
    def ok(self) -> bool:
        """Every file is what was recorded."""
        return all(file.ok for file in self.files)


def list_models() -> list[ModelStatus]:
    """The bundled models, the known ones, and whatever else was pulled, each with where it is."""
    rows = [_bundled(kind, name) for kind, name in _ships()]
    rows += [_known(model) for model in KNOWN_MODELS]
    home = models_home()
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        record = None if folder.name.startswith(".") else read_record(folder)
        if record is not None and known_model(record.repo) is None:
            kind: Kind = "encoder" if {"open_clip_config.json", *TOKENIZER_FILES} & set(record.files) else "segmenter"
            rows.append(
                _row(record.repo, kind, "pulled", folder, record, licence=record.licence, note="pulled by hand")
            )
    return rows


def check_model(ref: str) -> ModelCheck:
    """Recompute the checksums of a model on this disk.

    Args:
        ref: "bundled" (every model that ships), a folder, a file, or the id of a pulled or cached model.

    Raises:
        UnknownModel: there is no such model on this disk.
        BrokenWeights: its record cannot be read.
    """
    if ref == "bundled":
        return _check_bundled()
    path = _find(ref)
    if path.is_file():
        return ModelCheck(ref, path, False, (FileCheck(path.name, "", sha256_of(path)),))
    record = read_record(path)
    if record is None:
        names = sorted(file.name for file in path.iterdir() if file.is_file() and file.suffix in _WEIGHTS)
        return ModelCheck(ref, path, False, tuple(FileCheck(name, "", sha256_of(path / name)) for name in names))
    files = tuple(
        FileCheck(name, recorded, sha256_of(path / name) if (path / name).is_file() else "")
        for name, recorded in sorted(record.files.items())
    )
    return ModelCheck(ref, path, True, files)


def _ships() -> list[tuple[Kind, str]]:
    return [(kind, name) for kind in _KINDS for name in BUNDLED[kind]]


def _check_bundled() -> ModelCheck:
    checks = [check_model(str(_existing(kind, name))) for kind, name in _ships()]
    files = tuple(
        FileCheck(f"{check.path.name}/{file.name}", file.recorded, file.found)
        for check in checks
        for file in check.files
    )
    return ModelCheck("bundled", checks[0].path.parent, all(check.recorded for check in checks), files)


def _existing(kind: Kind, name: str) -> Path:
    folder = bundled_folder(kind, name)
    if not folder.is_dir():
        raise UnknownModel(f"the {kind} {name!r} is missing from this installation: reinstall lexiseg")
    return folder


def _find(ref: str) -> Path:
    # Asked as a segmenter's name: an encoder's could also be an architecture of open_clip, which is nothing
    # to check.
    reference = parse_reference(ref, "segmenter")
    if reference.path is not None:
        return reference.path
    if pulled_folder(reference.repo).is_dir():
        return pulled_folder(reference.repo)
    for marker in ("open_clip_config.json", "config.json"):
        if (cached := hub.cached_folder(reference.repo, marker)) is not None:
            return cached
    raise UnknownModel(f"{ref!r} is not on this machine: run `lexiseg models pull {reference.repo}`")


def _bundled(kind: Kind, name: str) -> ModelStatus:
    folder = bundled_folder(kind, name)
    here = folder.is_dir()
    record = read_record(folder) if here else None
    note = _NOTES[name]
    licence = record.licence if record else ""
    return _row(
        name,
        kind,
        "bundled" if here else "not here",
        folder if here else None,
        record,
        licence=licence,
        note=note,
    )


def _known(model: KnownModel) -> ModelStatus:
    pulled = pulled_folder(model.id)
    record = read_record(pulled)
    if record is not None:
        row = _row(
            model.id,
            model.kind,
            "pulled",
            pulled,
            record,
            licence=record.licence or model.licence,
            note=model.note,
        )
        return replace(row, gated=model.gated)
    cached = hub.cached_model(model.id, model.kind, revision=model.revision)
    state: State = "hub cache" if cached is not None else "not here"
    row = _row(model.id, model.kind, state, cached, None, licence=model.licence, note=model.note)
    row = replace(row, gated=model.gated)
    return row if cached is not None else replace(row, megabytes=float(model.megabytes))


def _row(
    name: str,
    kind: Kind,
    state: State,
    path: Path | None,
    record: FolderRecord | None,
    *,
    licence: str,
    note: str,
) -> ModelStatus:
    size = 0 if path is None else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    hashes = {} if record is None else {n: h for n, h in record.files.items() if Path(n).suffix in _WEIGHTS}
    cached = path.name if path is not None and state == "hub cache" else ""
    return ModelStatus(
        id=name,
        kind=kind,
        state=state,
        revision=record.revision if record else cached,
        sha256=next(iter(hashes.values()), ""),
        licence=licence,
        megabytes=round(size / 1e6, 1),
        path=path,
        note=note,
    )
