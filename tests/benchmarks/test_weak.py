"""The benchmark of students: spoilt copies, smaller pools, differences paired by patient, and rows without one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.training.students.labels import LabelSet
from weak import STUDENTS, Bench, Table, print_ingredients
from weak_sets import CORRUPTIONS, NONE, Cell, Difference, first_of, mean_of, paired, prepare, write_copy

SPOILT = [name for name in CORRUPTIONS if name != NONE]


def cell(*dice: float, prefix: str = "s") -> Cell:
    """One seed's scores of scans s0, s1, ..., all with the target."""
    scans = {f"{prefix}{k}": {"dice": d, "iou": d, "nsd_2px": d / 2, "target": 1.0} for k, d in enumerate(dice)}
    return {"learning": 60.0, "each": 0.5, "scans": scans}


def rows_of(*groups: str) -> list[ManifestRow]:
    return [ManifestRow(id=f"s{k}", image=Path(f"s{k}.png"), group=group) for k, group in enumerate(groups)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """lgg/ of twelve patients with two scans each."""
    folder = tmp_path / "lgg"
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "image", "mask", "group", "label", "bbox"])
        for k in range(24):
            pixels = np.random.default_rng(k).integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.jpg", quality=95)
            mask = np.zeros((24, 32), np.uint8)
            mask[4:9, 4:9] = 255
            Image.fromarray(mask).save(folder / f"{k}-mask.png")
            table.writerow([f"{k}", f"{k}.jpg", f"{k}-mask.png", f"g{k // 2}", "glioma", ""])
    return folder


@pytest.mark.parametrize("shape", [(120, 160), (160, 120, 3), (40, 30)])
@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_pixels_keep_shape_and_range_and_are_always_the_same(name: str, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).random(shape, np.float32)
    before = pixels.copy()
    found = CORRUPTIONS[name](pixels)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(found, CORRUPTIONS[name](pixels))
    assert np.array_equal(pixels, before)
    assert np.array_equal(found, pixels) == (name == "coarse" and max(shape) <= 96)  # that is as coarse already


def test_each_corruption_does_what_its_name_says() -> None:
    grey = np.full((64, 200), 0.5, np.float32)
    field = CORRUPTIONS["gain"](grey)[0]
    assert field[0] == pytest.approx(0.2)
    assert field[-1] == pytest.approx(0.8)
    assert np.all(np.diff(field) > 0)
    noise = np.random.default_rng(0).random((200, 200), np.float32)
    for name in ("blur", "motion", "coarse"):
        assert CORRUPTIONS[name](noise).std() < noise.std() / 2
        assert CORRUPTIONS[name](noise).mean() == pytest.approx(noise.mean(), abs=0.01)
    assert CORRUPTIONS["negative"](CORRUPTIONS["negative"](noise)) == pytest.approx(noise, abs=1e-6)


def test_a_copy_is_a_png_and_the_negative_of_a_negative_is_the_scan(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    once = write_copy(tmp_path / "scan.png", tmp_path / "once", "scan.jpg", "negative")
    assert once == tmp_path / "once" / "scan.png"
    assert np.array_equal(np.asarray(Image.open(once)), 255 - pixels)
    twice = write_copy(once, tmp_path / "twice", "scan.png", "negative")
    assert np.array_equal(np.asarray(Image.open(twice)), pixels)


@pytest.mark.parametrize("corruption", [NONE, "negative"])
def test_both_parts_are_spoilt_alike_and_masks_are_not(data: Path, tmp_path: Path, corruption: str) -> None:
    folder = tmp_path / "work"
    prepare(data, folder, share=0.4, limit=0, corruption=corruption)
    rows = read_manifest(folder / "manifest.csv")
    parts = {part: {row.group for row in rows if row.extra["split"] == part} for part in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 12
    assert {row.id for row in read_manifest(folder / "test.csv")} == {
        row.id for row in rows if row.extra["split"] == "test"
    }
    for row in rows:
        shown, source = np.asarray(Image.open(row.image)), np.asarray(Image.open(data / f"{row.id}.jpg"))
        assert np.array_equal(shown, 255 - source if corruption == "negative" else source)
        assert row.mask is not None
        assert row.mask.read_bytes() == (data / f"{row.id}-mask.png").read_bytes()


def test_smaller_pools_lie_in_larger_ones_patient_after_patient() -> None:
    pool = rows_of(*(f"g{k // 3}" for k in range(30)))
    labels = LabelSet(names=("x",), rows=tuple(pool[1:]), supervised=False)  # the first has no trusted label
    before: set[str] = set()
    for size in (6, 12, 13, 30):
        rows = first_of(labels, pool, size).rows
        assert size - 1 <= len(rows) <= size
        assert before <= {row.id for row in rows}
        before = {row.id for row in rows}
        parts = {part: {row.group for row in rows if row.extra["split"] == part} for part in ("train", "val")}
        assert all(parts.values())
        assert not parts["train"] & parts["val"]
        # All patients but the last are whole.
        assert len(parts["train"] | parts["val"]) == -(-size // 3)
    assert before == {row.id for row in labels.rows}


def test_a_difference_is_paired_and_whole_patients_are_resampled() -> None:
    rows = rows_of("a", "a", "b", "b")
    teacher, better = [cell(0.1, 0.9, 0.3, 0.5)], [cell(0.2, 1.0, 0.4, 0.6)]
    # However much scans differ, every one of them gained the same.
    assert paired(rows, teacher, better, "dice") == pytest.approx((0.1, 0.1, 0.1))
    assert paired(rows, teacher, better, "nsd_2px") == pytest.approx((0.05, 0.05, 0.05))
    # Within each patient a gain and a loss cancel: no resample of patients can see them.
    assert paired(rows, teacher, [cell(0.2, 0.8, 0.5, 0.3)], "dice") == pytest.approx((0, 0, 0), abs=1e-12)
    # One patient gains and one loses; of seeds the mean counts.
    mixed = paired(rows, teacher, [cell(0.3, 1.1, 0.1, 0.3), cell(0.3, 1.1, 0.3, 0.5)], "dice")
    assert mixed == pytest.approx((0.05, -0.1, 0.2))
    assert mean_of(better, "dice") == (pytest.approx(0.55), 0.0)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Difference(0.02, 0.01, 0.03), "better"),
        (Difference(0.02, -0.01, 0.05), "better, within chance"),
        (Difference(-0.004, -0.005, -0.003), "equal within half a point"),
        (Difference(-0.02, -0.03, -0.01), "worse"),
        (Difference(-0.02, float("nan"), float("nan")), "worse, within chance"),
    ],
)
def test_a_verdict_is_about_half_a_point(difference: Difference, said: str) -> None:
    assert difference.verdict == said
    assert str(Difference(0.021, -0.004, 0.05)) == "+2.1 (-0.4 to +5.0)"


def test_tables_say_where_nothing_could_be_learnt(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench("lgg", tmp_path / "work", None, "demo", "cpu")  # type: ignore[arg-type]  (nothing is trained)
    prepare(data, bench.manifest.parent, share=0.4, limit=0, corruption=NONE)
    names = [row.id for row in read_manifest(bench.test)]

    def scored(dice: float) -> list[Cell]:
        one = cell(*[dice] * len(names))
        return [{**one, "scans": dict(zip(names, one["scans"].values(), strict=True))}]

    refused = [{"refused": "'x' was found in none of 3 scans"}]
    cells = {
        "teacher": scored(0.5),
        "student, default": scored(0.6),
        "student, mirror": refused,
        "supervised": scored(0.8),
    }
    table = Table(bench, cells)
    table.print_rows()
    table.print_verdicts()
    print_ingredients([table], "teacher")
    print_ingredients([table], "student, mirror")
    out = capsys.readouterr().out
    assert "| lgg | student, default | pseudo-labels | 0.600 | 0.600 | 0.300 | +10.0 (+10.0 to +10.0) | +5.0" in out
    assert "| 75% |  | 1.0 | 0.50 |" in out
    assert "| lgg | student, mirror | pseudo-labels | nothing to learn: 'x' was found in none of 3 scans |" in out
    assert "- lgg: student, default: Dice better; NSD better" in out
    assert "| supervised | Dice | +30.0 (+30.0 to +30.0) | +30.0 of 1 |" in out
    assert set(STUDENTS) >= {"default", "look", "no look"}
