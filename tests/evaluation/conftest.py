"""A small set on disk and a system that answers it, to be spoiled by tests."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def disc(x: float, y: float, radius: float, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def save_png(mask: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


@dataclass
class SmallSet:
    """Six scans: a to e hold a disc, f holds nothing; groups of two; labels x, y and none."""

    folder: Path
    truths: dict[str, np.ndarray] = field(default_factory=dict)
    labels: Sequence[str] = ("x", "x", "x", "y", "y", "none")

    @property
    def manifest(self) -> Path:
        return self.folder / "m.csv"

    def write(self) -> None:
        rng = np.random.default_rng(0)
        rows = []
        for k, (name, label) in enumerate(zip("abcdef", self.labels, strict=True)):
            mask = disc(20 + 3 * k, 22, 9) if name != "f" else np.zeros((48, 64), bool)
            self.truths[name] = mask
            save_png(mask, self.folder / "masks" / f"{name}.png")
            grey = np.where(mask, 160, 60) + rng.integers(0, 40, mask.shape)
            (self.folder / "images").mkdir(exist_ok=True)
            Image.fromarray(grey.astype(np.uint8)).save(self.folder / "images" / f"{name}.png")
            rows.append([name, f"images/{name}.png", f"masks/{name}.png", f"g{k // 2}", label])
        self.write_manifest(rows)

    def write_manifest(
        self, rows: Sequence[Sequence[str]], header: Sequence[str] = ("id", "image", "mask", "group", "label")
    ) -> Path:
        with self.manifest.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(header)
            table.writerows(rows)
        return self.manifest

    def rows(self) -> list[list[str]]:
        with self.manifest.open(newline="") as file:
            return list(csv.reader(file))[1:]

    def predict(self, name: str, shift: int = 1, *, table: bool = True) -> Path:
        """A folder as `lexiseg segment` writes it, masks moved to the right by `shift` pixels."""
        folder = self.folder.parent / name
        folder.mkdir()
        lines = ["id,image,text,preset,present,presence,confidence,boxes,seconds,status,error"]
        for k, (scan, truth) in enumerate(self.truths.items()):
            save_png(np.roll(truth, shift, axis=1), folder / f"{scan}_mask.png")
            there = str(bool(truth.any())).lower()
            presence = 0.9 - 0.05 * k if truth.any() else 0.2
            lines.append(f"{scan},images/{scan}.png,disc,demo,{there},{presence:.2f},0.80,,0.1,ok,")
        if table:
            (folder / "results.csv").write_text("\n".join(lines) + "\n")
        return folder


@pytest.fixture
def small(tmp_path: Path) -> SmallSet:
    found = SmallSet(tmp_path / "set")
    found.folder.mkdir()
    found.write()
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two systems, good and bad, which tests read; bad lacks a mask and gives no presence."""
    from lexiseg.evaluation.evaluate import evaluate
    from lexiseg.evaluation.report.page import write_report
    from lexiseg.evaluation.settings import EvaluationSettings
    from lexiseg.evaluation.statistics import Bootstrap

    found = SmallSet(tmp_path_factory.mktemp("report") / "set")
    found.folder.mkdir()
    found.write()
    good, bad = found.predict("good", 1), found.predict("bad", 4, table=False)
    (bad / "b_mask.png").unlink()
    settings = EvaluationSettings(bootstrap=Bootstrap(resamples=100), by=("label",))
    return write_report(evaluate(found.manifest, [good, bad], settings), found.folder.parent / "out").parent
