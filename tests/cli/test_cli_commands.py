from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import lexiseg
from lexiseg.datasets.phantoms.registry import generate

NOT_NEEDED = (
    "lightning", "monai", "peft", "skimage", "matplotlib", "h5py", "nibabel", "pydicom", "highdicom", "SimpleITK",
    "nrrd", "tifffile", "fastapi", "uvicorn", "lexiseg.training", "lexiseg.serve", "lexiseg.evaluation",
    "lexiseg.benchmark", "lexiseg.models.segmenters.sam_checkpoint", "lexiseg.models.segmenters.sam_attention",
)  # fmt: skip
HEAVY = ("torch", "open_clip", "transformers", "matplotlib", "nibabel", "pydicom", "scipy")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXISEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


class TestStartsAtOnce:
    @pytest.mark.parametrize(
        "command",
        [
            ["--help"],
            ["--version"],
            ["segment", "--help"],
            ["models", "list"],
            ["presets"],
            ["demo", "--help"],
        ],
    )
    def test_imports_nothing_heavy(self, command: list[str]) -> None:
        code = (
            "import sys\n"
            "from lexiseg.cli.main import app\n"
            "app(sys.argv[1:], standalone_mode=False)\n"
            f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.splitlines()[-1] == "heavy: []"


class TestABundledModelNeeds:
    def test_no_more_than_it_computes_with(self, tmp_path: Path) -> None:
        """By names and not by time, so that it tells the same on any machine."""
        pixels = generate("chest-xray", 0).scan.pixels
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(tmp_path / "scan.png")
        code = (
            "import sys\n"
            "from lexiseg.cli.main import app\n"
            "app(sys.argv[1:], standalone_mode=False)\n"
            f"print('not needed:', [name for name in {NOT_NEEDED!r} if name in sys.modules])\n"
        )
        command = ["segment", tmp_path / "scan.png", "--text", "lungs", "--out", tmp_path / "out", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=True, timeout=240
        )
        assert (tmp_path / "out" / "scan_mask.png").is_file()
        assert done.stdout.splitlines()[-1] == "not needed: []"


class TestTop:
    def test_version(self, cli: Any) -> None:
        assert cli("--version").stdout == f"lexiseg {lexiseg.__version__}\n"

    def test_help_names_every_command(self, cli: Any) -> None:
        told = cli("--help").stdout
        assert all(name in told for name in ("segment", "demo", "models", "presets"))

    def test_an_unknown_command_is_bad_usage(self, cli: Any) -> None:
        assert cli("nonesuch").exit_code == 2


class TestPresets:
    def test_list_is_the_default(self, cli: Any) -> None:
        told = cli("presets").stdout
        assert "demo" in told
        assert "medclip-sam" in told
        assert cli("presets", "list").stdout == told

    def test_show_prints_a_preset_that_can_be_used(self, cli: Any, tmp_path: Path) -> None:
        shown = cli("presets", "show", "demo").stdout
        assert yaml.safe_load(shown)["pipeline"] == "medclip-sam"
        (tmp_path / "mine.yaml").write_text(shown)
        assert cli("presets", "show", tmp_path / "mine.yaml").stdout == shown

    def test_show_of_an_unknown_one(self, cli: Any) -> None:
        result = cli("presets", "show", "nonesuch")
        assert result.exit_code == 2
        assert "nonesuch" in result.stderr


class TestModels:
    def test_list_says_where_each_is(self, cli: Any) -> None:
        told = cli("models", "list").stdout
        assert "bundled" in told
        assert "facebook/sam-vit-base" in told

    def test_list_for_programs(self, cli: Any) -> None:
        found = json.loads(cli("models", "list", "--json").stdout)
        assert {"id", "kind", "state", "revision", "sha256", "licence"} <= set(found[0])

    def test_check_of_a_folder(self, cli: Any, tmp_path: Path) -> None:
        from lexiseg.models.weights.records import write_record

        (tmp_path / "model.safetensors").write_bytes(b"weights")
        write_record(tmp_path)
        assert "ok" in cli("models", "check", tmp_path).stdout
        (tmp_path / "model.safetensors").write_bytes(b"others")
        result = cli("models", "check", tmp_path)
        assert result.exit_code == 1
        assert "DIFFERS" in result.stdout
        (tmp_path / "model.safetensors").unlink()
        assert "MISSING" in cli("models", "check", tmp_path).stdout

    def test_an_export_replaces_a_file_only_when_asked(self, cli: Any, tmp_path: Path) -> None:
        taken = tmp_path / "keep.pt2"
        taken.write_bytes(b"mine")
        result = cli("models", "export", tmp_path / "student", "--out", taken)
        assert result.exit_code == 2
        assert "keep.pt2: it is there already; choose another name or add --overwrite" in result.stderr
        assert (
            "there already" not in cli("models", "export", tmp_path / "student", "--out", taken, "--overwrite").stderr
        )
        assert taken.read_bytes() == b"mine"

    def test_check_of_what_is_not_here(self, cli: Any) -> None:
        result = cli("models", "check", "facebook/sam-vit-base")
        assert result.exit_code == 2
        assert "models pull" in result.stderr

    def test_pull_without_a_network(self, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        result = cli("models", "pull", "facebook/sam-vit-base")
        assert result.exit_code == 1
        assert "HF_HUB_OFFLINE" in result.stderr
