"""run.json: what made the results beside it, to repeat the run, or to continue it with the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write
from lexiseg.version import __version__

RECORD_NAME = "run.json"
_PACKAGES = ("torch", "open_clip_torch", "timm", "transformers", "numpy")
_SAME = ("lexiseg", "preset", "models", "phrases", "seed", "precision", "options")


def settings_record(
    provenance: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    seed: int,
    phrases: Sequence[str],
    options: Mapping[str, bool],
) -> dict[str, Any]:
    """What decides a run's results, as plain values.

    Folders of models are cut to their last part: a path names people and machines.

    Args:
        provenance: of the pipeline: "preset", "encoder", "segmenter".
        device: where it ran.
        precision: of the models.
        seed: of the run.
        phrases: asked of every scan; empty where a manifest says them.
        options: what was written besides masks.
    """
    models = {role: _nameless(provenance[role]) for role in ("encoder", "segmenter")}
    return {
        "lexiseg": __version__,
        "preset": _nameless(provenance["preset"]),
        "models": models,
        "phrases": list(phrases) if phrases else "each row's own text, see results.csv",
        "seed": seed,
        "device": device,
        "precision": precision,
        "options": dict(options),
        "versions": {
            "python": platform.python_version(),
            **{name.removesuffix("_torch"): _version(name) for name in _PACKAGES},
        },
    }


def now() -> str:
    """The time as ISO 8601, in seconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The folder's run.json, or None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: it cannot be read; run without --resume to start anew") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: it is no record of a run; run without --resume to start anew")
    return content


def write_record(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write run.json in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    content = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
    return atomic_write(folder / RECORD_NAME, lambda file: file.write(content.encode()))


def refuse_other(before: Mapping[str, Any] | None, settings: Mapping[str, Any], folder: Path) -> None:
    """Pass where an earlier run's record has the same settings and weights.

    Raises:
        UsageError: it does not, or there is no record; says what differs.
    """
    if before is None:
        raise UsageError(f"{folder}: there are results but no {RECORD_NAME}, so nobody knows what made them; "
                         "run without --resume or choose another folder")  # fmt: skip
    # Through JSON, in which tuples are lists.
    current = json.loads(json.dumps(settings, default=str))
    differing = [key for key in _SAME if before.get(key) != current.get(key)]
    if differing:
        raise UsageError(
            f"{folder}: its run was made with other {' and '.join(map(_difference, differing))}; "
            "resume with the same, run without --resume, or choose another folder"
        )


def _difference(key: str) -> str:
    words = {"lexiseg": "version of lexiseg", "models": "weights", "options": "outputs asked for"}
    return words.get(key, key)


def _nameless(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _last_part(value) if isinstance(value, str) else value for key, value in values.items()}


def _last_part(text: str) -> str:
    """A folder's or file's name without where it lies; any other text as it is."""
    prefix, separator, rest = text.rpartition("local-dir:")
    path = Path(rest).expanduser()
    is_place = bool(separator) or path.is_absolute() or (len(path.parts) > 1 and path.exists())
    return f"{prefix}{separator}{path.name}" if is_place else text


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
