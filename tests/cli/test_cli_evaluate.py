from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def manifest(scans: Path) -> Path:
    """The three scans with true masks, one of them empty."""
    rows = ["id,image,mask,label"]
    for k, name in enumerate("abc"):
        mask = np.zeros((24, 32), np.uint8)
        mask[4:15, 5 : 20 * (k < 2)] = 255
        Image.fromarray(mask).save(scans / f"true_{name}.png")
        rows.append(f"{name},{name}.png,true_{name}.png,{'xy'[k % 2]}")
    path = scans / "m.csv"
    path.write_text("\n".join(rows))
    return path


def predicted(scans: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in "abc":
        shutil.copy(scans / f"true_{name}.png", folder / f"{name}_mask.png")
    return folder


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


class TestEvaluate:
    def test_what_segment_wrote(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        out = tmp_path / "masks"
        assert cli.segment(out, "--manifest", manifest, "--save-stages").exit_code == 0
        result = cli("evaluate", "--pred", out, "--manifest", manifest, "--out", tmp_path / "report")
        assert result.exit_code == 0, result.stderr
        assert "Dice" in result.stdout
        assert (tmp_path / "report" / "report.html").is_file()

    def test_perfect_masks_against_others(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        first, second = predicted(scans, tmp_path / "first"), predicted(scans, tmp_path / "second")
        Image.new("L", (32, 24)).save(second / "a_mask.png")
        result = cli("evaluate", "--pred", first, "--against", second, "--manifest", manifest,
                     "--by", "label", "--out", tmp_path / "report")  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert "1.000" in result.stdout
        assert "0.667" in result.stdout

    def test_what_is_missing_is_told_and_is_the_exit_status(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path
    ) -> None:
        folder = predicted(scans, tmp_path / "masks")
        (folder / "a_mask.png").unlink()
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "report")
        assert result.exit_code == 1
        assert "1 of 3 predictions missing or refused" in result.stderr
        assert "no a_mask.png" in (tmp_path / "report" / "cases.csv").read_text()

    def test_how_many_have_no_mask_is_said_before_anything_is_scored(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path
    ) -> None:
        folder = predicted(scans, tmp_path / "masks")
        (folder / "a_mask.png").unlink()
        (folder / "b_mask.png").unlink()
        # Nothing can be scored any more: what is said is said before.
        for name in "abc":
            (scans / f"true_{name}.png").unlink()
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "report")
        assert result.exit_code == 2
        assert lines(result.stderr)[0].startswith("2 of 3 scans of m.csv have no mask in ")
        assert lines(result.stderr)[0].endswith("masks: they score 0")

    def test_of_complete_masks_nothing_is_said(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder = predicted(scans, tmp_path / "masks")
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "report")
        assert "have no mask" not in result.stderr

    def test_paths_below_a_root(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder, elsewhere = predicted(scans, tmp_path / "masks"), tmp_path / "tables" / "m.csv"
        elsewhere.parent.mkdir()
        text = manifest.read_text().replace("true_a.png", f"{scans}/true_a.png").replace("true_b.png", "/etc/true_b")
        elsewhere.write_text(text)
        asked = ["evaluate", "--pred", folder, "--manifest", elsewhere, "--out", tmp_path / "report"]
        assert "no row has a truth" in cli(*asked).stderr
        result = cli(*asked, "--root", scans)
        assert result.exit_code == 1
        assert "1 rows have no usable truth" in result.stderr
        assert "lies outside the root" in (tmp_path / "report" / "report.json").read_text()
        assert len((tmp_path / "report" / "cases.csv").read_text().splitlines()) == 3
        assert str(scans) not in (tmp_path / "report" / "report.json").read_text()

    @pytest.mark.parametrize("label", ["2", "x=2,3"])
    def test_a_label_is_chosen_and_noted(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path, label: str
    ) -> None:
        manifest.write_text(manifest.read_text().replace(",y", ",x"))
        folder = predicted(scans, tmp_path / "masks")
        for path in folder.iterdir():
            labels = np.where(np.asarray(Image.open(path)) > 0, 2, 0).astype(np.uint8)
            labels[-2:] = 1
            Image.fromarray(labels).save(path)
        asked = ["evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "report"]
        assert cli(*asked).exit_code == 1
        result = cli(*asked, "--label", label)
        assert result.exit_code == 0, result.stderr
        assert "1.000" in result.stdout
        assert "notes on the masks of 3 scans are in the report and in cases.csv" in result.stderr
        assert "prediction: label 2" in (tmp_path / "report" / "cases.csv").read_text()

    def test_what_decided_numbers_is_said(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder = predicted(scans, tmp_path / "masks")
        for path in folder.iterdir():
            labels = np.where(np.asarray(Image.open(path)) > 0, 2, 0).astype(np.uint8)
            labels[-2:] = 1
            Image.fromarray(labels).save(path)
        for name in "ab":
            truth = np.asarray(Image.open(scans / f"true_{name}.png")) > 0
            Image.fromarray(truth.astype(np.uint8)).save(scans / f"true_{name}.png")
        asked = ["evaluate", "--pred", folder, "--manifest", manifest, "--label", 2]
        result = cli(*asked)
        assert "m.csv: no column says which scans are of one patient" in result.stderr
        assert "true masks: 2 hold one value alone, which is not the label" in result.stderr
        result = cli(*asked, "--true-label", 1)
        assert "one value alone" not in result.stderr
        assert "1.000" in result.stdout

    def test_quiet(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder = predicted(scans, tmp_path / "masks")
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "r", "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


class TestWithoutAReport:
    def test_the_tables_alone_are_printed(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder = predicted(scans, tmp_path / "masks")
        before = sorted(tmp_path.rglob("*"))
        result = cli("evaluate", "--pred", folder, "--manifest", manifest)
        assert result.exit_code == 0, result.stderr
        for name in ("Dice", "IoU", "NSD", "HD95", "AUROC", "95% interval"):
            assert name in result.stdout
        assert "report" not in result.stderr
        assert sorted(tmp_path.rglob("*")) == before


class TestFoldersOfOthers:
    def asked(self, scans: Path, manifest: Path, tmp_path: Path, out: Path) -> list[object]:
        folder = tmp_path / "masks"
        if not folder.exists():
            predicted(scans, folder)
        return ["evaluate", "--pred", folder, "--manifest", manifest, "--out", out, "--quiet"]

    def test_a_report_is_written_over_a_report(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        for _ in range(2):
            assert cli(*self.asked(scans, manifest, tmp_path, tmp_path / "r")).exit_code == 0

    @pytest.mark.parametrize("name", ["summary.csv", "cases.csv", "comparisons.csv", "report.json", "report.md",
                                      "report.html"])  # fmt: skip
    def test_what_no_report_wrote_is_kept(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / name).write_text("# my own\n")
        result = cli(*self.asked(scans, manifest, tmp_path, tmp_path / "r"))
        assert result.exit_code == 2
        assert f"{name} is there and lexiseg did not write it; choose another folder" in result.stderr
        assert [each.read_text() for each in (tmp_path / "r").iterdir()] == ["# my own\n"]

    def test_the_manifest_is_kept(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        own = manifest.rename(scans / "summary.csv")
        text = own.read_text()
        result = cli(*self.asked(scans, own, tmp_path, scans))
        assert (result.exit_code, own.read_text()) == (2, text)
        assert "summary.csv is there and is read by this call" in result.stderr

    def test_a_file_is_refused_before_anything_is_scored(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.evaluation.evaluate.evaluate", None)
        result = cli(*self.asked(scans, manifest, tmp_path, manifest))
        assert result.exit_code == 2
        assert lines(result.stderr) == [f"{manifest}: it is a file; expected a folder"]


class TestBadUsage:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"--pred": "nowhere"}, "no such folder"),
            ({"--manifest": "nowhere.csv"}, "no such file"),
            ({"--empty": "perhaps"}, "--empty is perhaps; expected score or skip"),
            ({"--by": "colour"}, "no column colour"),
            ({"--label": "liver"}, "the label is liver; expected a number such as 2, or NAME=2"),
            ({"--label": "liver=2"}, "no row's text or label is 'liver'"),
            ({"--tolerance": "0"}, "the tolerance is 0"),
            ({"--root": "nowhere"}, "nowhere: no such folder; expected the root"),
        ],
    )
    def test_is_one_line_and_2(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path, changes: dict[str, str], reason: str
    ) -> None:
        folder = predicted(scans, tmp_path / "masks")
        asked = {"--pred": folder, "--manifest": manifest, "--out": tmp_path / "report", **changes}
        result = cli("evaluate", *(part for pair in asked.items() for part in pair))
        assert result.exit_code == 2
        assert reason in result.stderr
        assert len(lines(result.stderr)) == 1
        assert not (tmp_path / "report").exists()

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            ("id,image,mask\n", "no rows"),
            ("", "empty"),
            ("id,image,mask\na,a.png,true_a.png\na,b.png,true_b.png\n", "more than once"),
            ("id,image,mask\na,../a.png,../true_a.png\n", "leads out of the manifest's folder"),
        ],
    )
    def test_a_bad_manifest(
        self, cli: Any, scans: Path, manifest: Path, tmp_path: Path, rows: str, reason: str
    ) -> None:
        manifest.write_text(rows)
        folder = predicted(scans, tmp_path / "masks")
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "report")
        assert result.exit_code == 2
        assert reason in result.stderr
        assert len(lines(result.stderr)) == 1

    def test_a_folder_that_cannot_be_written(self, cli: Any, scans: Path, manifest: Path, tmp_path: Path) -> None:
        folder = predicted(scans, tmp_path / "masks")
        (tmp_path / "file").write_text("")
        result = cli("evaluate", "--pred", folder, "--manifest", manifest, "--out", tmp_path / "file" / "r")
        assert result.exit_code == 1
        assert "could not be written" in result.stderr
