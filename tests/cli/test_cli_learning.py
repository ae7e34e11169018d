"""`lexiseg finetune` and `lexiseg retrieve`, with a small tower."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from towers import make_tower_folder

pytest.importorskip("lightning", reason="fine-tuning needs lightning: pip install 'lexiseg[train]'")

QUICK = ("--epochs", 1, "--batch", 4, "--lr", 1e-3, "--set", "validation=0.4", "--device", "cpu")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tower_folder(tmp_path_factory.mktemp("tower"), "CLIP ViT")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = ["image,text,split"]
    for index in range(12):
        values = np.random.default_rng(index).integers(0, 256, (20, 30), np.uint8)
        Image.fromarray(values).save(folder / f"{index}.png")
        rows.append(f"{index}.png,caption number {index} is here,{'val' if index % 3 == 0 else 'train'}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder / "pairs.csv"


class TestFinetune:
    def test_a_run_and_its_continuation(self, cli: Any, pairs: Path, tower: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = cli("finetune", pairs, "--encoder", tower, "--loss", "infonce", "--out", out, *QUICK)
        assert done.exit_code == 0, done.stderr
        assert "before" in done.stdout and "1 *" in done.stdout
        assert "8 pairs trained, 4 validated, 0 left out" in done.stderr
        assert cli("models", "check", out).exit_code == 0
        again = cli("finetune", pairs, "--encoder", tower, "--loss", "infonce", "--out", out, *QUICK)
        assert again.exit_code == 2 and "--resume" in again.stderr
        resumed = cli(
            "finetune",
            pairs,
            "--encoder",
            tower,
            "--loss",
            "infonce",
            "--out",
            out,
            *QUICK,
            "--resume",
            "--quiet",
        )
        assert resumed.exit_code == 0 and resumed.stdout == ""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--loss", "triplet"), "dhn-nce"),
            (("--preset", "nonesuch"), "default, paper"),
            (("--set", "nonesuch=1"), "nonesuch"),
            (("--set", "temperature"), "key=value"),
            (("--freeze", "both"), "none, image, text"),
            (("--precision", "float16", "--device", "cpu"), "CUDA"),
            (("--set", "min_caption=99"), "no pair can be used"),
        ],
    )
    def test_bad_usage_is_one_line(
        self, cli: Any, pairs: Path, tower: Path, tmp_path: Path, options: tuple[str, ...], message: str
    ) -> None:
        result = cli("finetune", pairs, "--encoder", tower, "--out", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


class TestRetrieve:
    def test_table_and_files(self, cli: Any, pairs: Path, tower: Path, tmp_path: Path) -> None:
        result = cli("retrieve", pairs, "--encoder", tower, "--out", tmp_path / "out", "--device", "cpu")
        assert result.exit_code == 0, result.stderr
        assert "top-1 of 12" in result.stdout and "recall@5 of 12" in result.stdout
        with (tmp_path / "out" / "retrieval.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 10
        assert [row["value"] for row in rows] == [
            str(row["value"]) for row in json.loads((tmp_path / "out" / "retrieval.json").read_text())
        ]

    def test_what_no_retrieval_wrote_is_kept(
        self, cli: Any, pairs: Path, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.training.finetuning.embedding.retrieve_pairs", None)
        own = pairs.rename(pairs.with_name("retrieval.csv"))
        text = own.read_text()
        result = cli("retrieve", own, "--encoder", tower, "--out", own.parent)
        assert (result.exit_code, own.read_text()) == (2, text)
        assert "retrieval.csv is there and is read by this call" in result.stderr
        (tmp_path / "file").write_text("")
        result = cli("retrieve", own, "--encoder", tower, "--out", tmp_path / "file")
        assert (result.exit_code, "it is a file; expected a folder" in result.stderr) == (2, True)

    def test_json_and_a_part(self, cli: Any, pairs: Path, tower: Path) -> None:
        result = cli(
            "retrieve",
            pairs,
            "--encoder",
            tower,
            "--split",
            "val",
            "--gallery",
            2,
            "--json",
            "--device",
            "cpu",
        )
        rows = json.loads(result.stdout)
        assert {row["pairs"] for row in rows} == {4}
        assert rows[0]["measure"] == "top-1 of 2"

    def test_bad_usage(self, cli: Any, pairs: Path, tower: Path, tmp_path: Path) -> None:
        for arguments in (
            (tmp_path / "none.csv", "--encoder", tower),
            (pairs, "--encoder", tower, "--split", "later"),
            (pairs, "--encoder", tower, "--split", "test"),
            (pairs, "--encoder", tmp_path / "none"),
        ):
            result = cli("retrieve", *arguments, "--device", "cpu")
            assert result.exit_code == 2
            assert len(result.stderr.strip().splitlines()) == 1
