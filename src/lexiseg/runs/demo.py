"""The demonstration: phantom scans of every modality, segmented by phrases, against their exact truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from lexiseg.datasets.manifest import ManifestRow, write_manifest
from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import MODALITIES, generate
from lexiseg.errors import UsageError
from lexiseg.files import atomic_write
from lexiseg.pipelines.results import Result
from lexiseg.runs.demo_files import begin_demo, end_demo
from lexiseg.runs.figures import Exhibit, draw_overview, draw_stages
from lexiseg.runs.items import RunItem
from lexiseg.runs.segment import RunOptions, RunProgress, RunRequest, RunSummary, segment_files
from lexiseg.values.scans import Image, Scan

OVERVIEW_NAME = "demo.png"
_ABSENT_IN, _WRONG_IN = "brain-mri", "chest-xray"

_SCENES: Mapping[str, Mapping[str, Any]] = {"brain-mri": {"contrast": "FLAIR", "plane": "axial"}}
"""What is fixed of a phantom; the rest is drawn from the seed.  Of brain scans the bundled pair is best on
axial FLAIR with a glioma and poor on much else (docs/lab/quality.md): the demonstration shows the former."""
_KINDS: Mapping[str, Mapping[str, Any]] = {"brain-mri": {"kind": "glioma"}}


@dataclass(frozen=True, eq=False)
class DemoCase:
    """A phantom and what it is asked for."""

    phantom: Phantom
    phrase: str

    @property
    def title(self) -> str:
        """The modality in words, and whether it lacks its usual target."""
        words = {"mri": "MRI", "xray": "X-ray", "ct": "CT"}
        name = " ".join(words.get(part, part) for part in self.phantom.modality.split("-"))
        return f"normal {name}" if self.phrase == self.phantom.phrase and not self.phantom.target.any() else name


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demonstration shows, and with what.

    Attributes:
        seed: of the phantoms.
        count: scans of each modality with their usual target; one scan without its target and one asked for
            a wrong organ come on top.
        preset: see `lexiseg.load`.
        changes: fields of the preset to replace.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: see `RunRequest`.
    """

    seed: int = 0
    count: int = 2
    preset: str = "demo"
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None


@dataclass(frozen=True, eq=False)
class DemoReport:
    """What came of it: an exhibit and its seconds for each scan that was done, in order.

    Attributes:
        summary: of the run.
        exhibits: one for each scan.
        seconds: of each scan.
        overview: the picture of one scan of each kind.
    """

    summary: RunSummary
    exhibits: tuple[Exhibit, ...]
    seconds: tuple[float, ...]
    overview: Path


def demo_cases(*, seed: int = 0, count: int = 2) -> list[DemoCase]:
    """Scans of every modality asked for their usual target, then one without it and one of a wrong organ.

    Raises:
        UsageError: a negative seed, or a count below 1.
    """
    if count < 1:
        raise UsageError(f"a demonstration of {count} scans of each modality shows nothing; ask for at least 1")
    cases = []
    for modality in MODALITIES:
        for k in range(count):
            phantom = generate(modality, seed + k, target=True, **_SCENES.get(modality, {}), **_KINDS.get(modality, {}))
            cases.append(DemoCase(phantom, phantom.phrase))
    without = generate(_ABSENT_IN, seed + count, target=False, **_SCENES.get(_ABSENT_IN, {}))
    foreign = generate(_WRONG_IN, seed + count)
    wrong = next(phrase for phrase in foreign.absent_phrases if phrase.endswith("head"))
    return [*cases, DemoCase(without, without.phrase), DemoCase(foreign, wrong)]


def run_demo(
    out: Path,
    options: DemoOptions | None = None,
    *,
    progress: Callable[[RunProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
) -> DemoReport:
    """Write phantoms, segment them from their files as any other scans, and draw what came of it.

    Writes out/scans (images, true masks, manifest.csv), out/results (as `segment_files` does),
    out/figures/ID.png for each scan, out/demo.png, and out/demo.json, which says what a demonstration wrote.

    Args:
        out: missing, empty or of an earlier demonstration, whose files are replaced.
        options: see `DemoOptions`.
        progress: called with how far it is.
        fetched: told (file, bytes done, bytes in all) while a model is fetched.

    Raises:
        UsageError: `out` is a file, holds what no demonstration wrote, or what was changed since; see `begin_demo`.
        LexisegError: see `segment_files`.
    """
    options = options or DemoOptions()
    cases = demo_cases(seed=options.seed, count=options.count)
    names = [case.phantom.scan.id for case in cases]
    written = [OVERVIEW_NAME, "scans/manifest.csv", *(f"figures/{name}.png" for name in names)]
    written += [f"scans/{kind}/{name}.png" for kind in ("images", "masks") for name in names]
    begin_demo(out, written)
    manifest = _write_scans(cases, out / "scans")
    by_id = {case.phantom.scan.id: case for case in cases}
    exhibits: list[Exhibit] = []
    seconds: list[float] = []

    def observe(item: RunItem, scan: Scan, result: Result) -> None:
        case = by_id[item.id]
        truth = case.phantom.mask(case.phrase)
        assert isinstance(scan, Image)
        exhibits.append(Exhibit(case.title, scan, result.targets[0], truth))
        seconds.append(result.seconds["total"])

    summary = segment_files(
        RunRequest(
            out=out / "results",
            manifest=manifest,
            preset=options.preset,
            changes=options.changes,
            device=options.device,
            precision=options.precision,
            batch=options.batch,
            options=RunOptions(save_stages=True, overlay=True, seed=options.seed),
        ),
        progress=progress,
        fetched=fetched,
        observe=observe,
    )
    for exhibit in exhibits:
        draw_stages(exhibit, out / "figures" / f"{exhibit.scan.id}.png")
    if exhibits:
        draw_overview(_one_of_each(exhibits, options.count), out / OVERVIEW_NAME)
    end_demo(out)
    return DemoReport(summary, tuple(exhibits), tuple(seconds), out / OVERVIEW_NAME)


def _write_scans(cases: Sequence[DemoCase], folder: Path) -> Path:
    rows = []
    for case in cases:
        name = case.phantom.scan.id
        row = ManifestRow(
            id=name,
            image=folder / "images" / f"{name}.png",
            mask=folder / "masks" / f"{name}.png",
            text=case.phrase,
            group=name,
            label="present" if case.phrase in case.phantom.structures else "absent",
        )
        assert row.mask is not None
        _write_png(case.phantom.scan.pixels, row.image)
        _write_png(case.phantom.mask(case.phrase), row.mask)
        rows.append(row)
    return write_manifest(rows, folder / "manifest.csv")


def _write_png(values: np.ndarray, path: Path) -> None:
    picture = Pillow.fromarray(np.rint(values.astype(np.float32) * 255).astype(np.uint8))
    atomic_write(path, lambda file: picture.save(file, format="PNG"))


def _one_of_each(exhibits: Sequence[Exhibit], count: int) -> list[Exhibit]:
    """The first scan of each modality, then the two special cases."""
    special = len(MODALITIES) * count
    return [*exhibits[:special:count], *exhibits[special:]]
