"""pseudo-label, train, predict and distill at the terminal, with a fake teacher and a tiny student."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from discs import write_discs

pytest.importorskip("monai", reason="students need lexiseg[train]")

from lexiseg.cli.students import beside_teacher

TINY = ("--network", "unet", "--size", 32, "--steps", 4, "--batch", 2, "--cycles", 2, "--device", "cpu")
FIXED = (*TINY, "--tune", "fixed")  # the faked teacher has no look to choose


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    write_discs(tmp_path / "data", 6)
    return tmp_path / "data"


def one_line(result: Any, status: int, *words: str) -> None:
    assert result.exit_code == status
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines


@pytest.mark.parametrize(
    ("changes", "same"), [({}, True), ({"overlap": 0.9}, False), ({"found": 1}, False), ({"overlap": None}, False)]
)
def test_what_is_said_of_a_student_beside_its_teacher(changes: dict[str, Any], same: bool) -> None:
    found = {"scans": 8, "sure": 6, "missed": 0, "found": 0, "overlap": 0.99, **changes}
    told = beside_teacher(found)
    assert told.startswith("beside its teacher, on 8 scans: 6 sure masks, overlapped by ")
    assert told.endswith("learning gave nothing") == same


class TestInTurn:
    def test_from_scans_to_masks(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        made = cli("pseudo-label", "--manifest", discs / "manifest.csv", "--text", "tumor", "--out", tmp_path / "set")
        assert made.exit_code == 0
        assert "6 images in the set" in made.stderr
        trained = cli("train", tmp_path / "set", "--out", tmp_path / "model", *TINY)
        assert trained.exit_code == 0, trained.stderr
        assert "pseudo-labels (no true mask)" in trained.stderr
        card = (tmp_path / "model" / "README.md").read_text()
        assert "no true mask was used" in card
        found = cli("predict", tmp_path / "model", discs / "images", "--out", tmp_path / "masks")
        assert found.exit_code == 0, found.stderr
        with (tmp_path / "masks" / "results.csv").open(newline="") as file:
            assert [row["text"] for row in csv.DictReader(file)] == ["tumor"] * 6
        assert (tmp_path / "masks" / "d0_uncertainty.png").exists()

    def test_at_once_and_again(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        out = tmp_path / "all"
        arguments = ("distill", discs / "images", "--text", "tumor", "--out", out, "--deliver-anyway", *FIXED)
        assert cli(*arguments).exit_code == 0
        labelled = (out / "labels" / "manifest.csv").stat().st_mtime_ns
        # Before anything is labelled anew, which takes hours of a large pool.
        one_line(cli(*arguments, "--quiet"), 2, "model: it holds a finished model")
        assert (out / "labels" / "manifest.csv").stat().st_mtime_ns == labelled
        assert {path.name for path in out.iterdir()} == {"labels", "masks", "model"}
        weights = (out / "model" / "model.safetensors").read_bytes()
        assert cli(*arguments, "--resume").exit_code == 0
        assert (out / "model" / "model.safetensors").read_bytes() == weights

    def test_a_pool_of_one_scan(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        scan = discs / "images" / "d0.png"
        result = cli("distill", scan, "--text", "tumor", "--out", tmp_path / "all", *FIXED, "--quiet")
        one_line(result, 1, "1 image is left to learn from", "give more scans")

    def test_a_pool_of_copies(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        pool = tmp_path / "pool"
        pool.mkdir()
        for name in ("a", "b", "c"):
            shutil.copyfile(discs / "images" / "d0.png", pool / f"{name}.png")
        result = cli("distill", pool, "--text", "tumor", "--out", tmp_path / "all", *FIXED, "--quiet")
        one_line(result, 1, "1 image is left to learn from, where copies count once")

    def test_copies_are_learnt_once(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        shutil.copyfile(discs / "images" / "d0.png", discs / "images" / "again.png")
        result = cli("pseudo-label", discs / "images", "--text", "tumor", "--out", tmp_path / "set")
        assert result.exit_code == 0
        assert "1 of 7 scans are copies" in result.stderr
        assert "6 images in the set" in result.stderr
        assert len(list((tmp_path / "set" / "images").iterdir())) == 6

    def test_a_pool_of_one_patient(self, cli: Any, tmp_path: Path) -> None:
        """Nothing is held out, which one line and the model card say."""
        write_discs(tmp_path / "one", 6, per_group=6)
        manifest = tmp_path / "one" / "manifest.csv"
        arguments = ("--manifest", manifest, "--text", "tumor", "--out", tmp_path / "all", "--deliver-anyway")
        result = cli("distill", *arguments, *FIXED)
        assert result.exit_code == 0, result.stderr
        assert "nothing is held out, so nothing stops the training early: all scans are of one group" in result.stderr
        card = (tmp_path / "all" / "model" / "README.md").read_text()
        assert "on 6 scans that it learnt from, since none was held out" in card

    def test_a_pool_without_the_target(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        result = cli(
            "distill", discs / "images", "--text", "unseen tumor", "--out", tmp_path / "all", *FIXED, "--quiet"
        )
        one_line(result, 1, "'unseen tumor' was found in none of 6 scans")

    def test_a_student_that_looks_worse_is_not_delivered(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        """Four steps teach a U-Net nothing."""
        out = tmp_path / "all"
        arguments = ("distill", discs / "images", "--text", "tumor", "--out", out, *FIXED)
        result = cli(*arguments)
        assert result.exit_code == 0
        assert sum("looks worse than its teacher" in line for line in result.stderr.splitlines()) == 1
        assert "6 masks by the teacher" in result.stderr
        assert {path.name for path in out.iterdir()} == {"labels", "masks", "refused"}
        assert "It looks worse than its teacher" in (out / "refused" / "README.md").read_text()
        masks = {path.name: path.read_bytes() for path in (out / "masks").glob("*_mask.png")}
        taught = {path.name: path.read_bytes() for path in (out / "labels" / "teacher").glob("*_mask.png")}
        assert masks == taught
        # Who wants it all the same has it, without another training.
        weights = (out / "refused" / "model.safetensors").read_bytes()
        again = cli(*arguments, "--resume", "--deliver-anyway")
        assert again.exit_code == 0, again.stderr
        assert "6 masks by the student" in again.stderr
        assert (out / "model" / "model.safetensors").read_bytes() == weights
        assert {path.name: path.read_bytes() for path in (out / "masks").glob("*_mask.png")} != taught


class TestRefusals:
    def test_nothing_found(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        result = cli("pseudo-label", discs / "images", "--text", "unseen organ", "--out", tmp_path / "set")
        one_line(result, 1, "nothing to learn", "--text", "presence.threshold", "--preset")

    def test_no_phrase(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        one_line(cli("pseudo-label", discs / "images", "--out", tmp_path / "set"), 2, "--text")

    def test_neither_set_nor_masks(self, cli: Any, tmp_path: Path) -> None:
        one_line(cli("train", "--out", tmp_path / "model"), 2, "--masks")

    def test_a_folder_that_is_no_set(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        one_line(cli("train", discs, "--out", tmp_path / "model"), 2, "pseudo-label")

    def test_a_folder_that_is_no_model(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        one_line(cli("predict", discs, discs / "images", "--out", tmp_path / "m"), 2, "lexiseg train")

    def test_an_unknown_option_against_noise(self, cli: Any, discs: Path, tmp_path: Path) -> None:
        result = cli("train", "--masks", discs / "manifest.csv", "--out", tmp_path / "m", "--robust", "hope", "--quiet")
        one_line(result, 2, "hope", "co-teaching")

    def test_nnunet_that_is_not_installed(
        self, cli: Any, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.training.students.nnunet.find_spec", lambda name: None)
        result = cli(
            "train",
            "--masks",
            discs / "manifest.csv",
            "--out",
            tmp_path / "m",
            "--backend",
            "nnunet",
            "--quiet",
        )
        one_line(result, 2, "pip install nnunetv2")

    def test_training_that_is_not_installed(
        self, cli: Any, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.training.students.train.find_spec", lambda name: None)
        result = cli("train", "--masks", discs / "manifest.csv", "--out", tmp_path / "m", "--quiet")
        one_line(result, 2, "pip install 'lexiseg[train]'")


def test_nnunet_gets_the_set_and_its_split(
    cli: Any, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, work in {
        "nnUNetv2_plan_and_preprocess": 'mkdir -p "$nnUNet_preprocessed/Dataset501_lexiseg"',
        "nnUNetv2_train": 'echo "$@" > "$nnUNet_results/asked"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{work}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr("lexiseg.training.students.nnunet.find_spec", lambda name: object())
    out = tmp_path / "nn"
    result = cli("train", "--masks", discs / "manifest.csv", "--out", out, "--backend", "nnunet")
    assert result.exit_code == 0, result.stderr
    assert (out / "nnUNet_results" / "asked").read_text().split() == ["501", "2d", "0"]
    assert (out / "nnUNet_preprocessed" / "Dataset501_lexiseg" / "splits_final.json").exists()
    assert len(list((out / "nnUNet_raw" / "Dataset501_lexiseg" / "imagesTr").iterdir())) == 6
