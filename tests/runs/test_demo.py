from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from PIL import Image

from lexiseg.datasets.manifest import read_manifest
from lexiseg.datasets.phantoms.registry import MODALITIES
from lexiseg.errors import UsageError
from lexiseg.io.masks import read_mask
from lexiseg.runs.demo import DemoOptions, DemoReport, demo_cases, run_demo


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoReport]:
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lexiseg.pipelines.loading.load", lambda preset, **_: FakePipeline(preset))
        return out, run_demo(out, DemoOptions(count=1, seed=3))


class TestCases:
    def test_every_modality_then_one_without_its_target_and_one_of_a_wrong_organ(self) -> None:
        cases = demo_cases(count=2)
        assert [case.phantom.modality for case in cases[:12:2]] == list(MODALITIES)
        assert all(case.phantom.mask(case.phrase).any() for case in cases[:12])
        without, wrong = cases[12:]
        assert without.phrase == without.phantom.phrase
        assert wrong.phrase != wrong.phantom.phrase
        assert not without.phantom.target.any()
        assert not wrong.phantom.mask(wrong.phrase).any()
        assert len({case.phantom.scan.id for case in cases}) == 14

    def test_nothing_to_show(self) -> None:
        with pytest.raises(UsageError, match="at least 1"):
            demo_cases(count=0)


class TestFiles:
    def test_scans_have_a_manifest_with_their_truth(self, shown: tuple[Path, DemoReport]) -> None:
        out, _ = shown
        rows = read_manifest(out / "scans" / "manifest.csv")
        assert len(rows) == 8
        case = demo_cases(count=1, seed=3)[0]
        assert rows[0].mask is not None
        np.testing.assert_array_equal(read_mask(rows[0].mask), case.phantom.target)

    def test_results_are_those_of_a_run(self, shown: tuple[Path, DemoReport]) -> None:
        out, report = shown
        with (out / "results" / "results.csv").open(newline="") as file:
            assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 8
        assert report.summary.done == len(report.exhibits) == len(report.seconds) == 8

    def test_a_figure_for_each_scan_of_one_size(self, shown: tuple[Path, DemoReport]) -> None:
        out, report = shown
        sizes = {Image.open(out / "figures" / f"{each.scan.id}.png").size for each in report.exhibits}
        assert len(sizes) == 1

    def test_the_overview_is_wide_and_holds_pictures(self, shown: tuple[Path, DemoReport]) -> None:
        picture = np.asarray(Image.open(shown[0] / "demo.png").convert("L"))
        assert picture.shape[1] > 1.4 * picture.shape[0] > 1000
        assert picture.std() > 20

    def test_the_outlines_of_answer_and_truth_are_drawn(self, shown: tuple[Path, DemoReport]) -> None:
        out, report = shown
        picture = np.asarray(Image.open(out / "figures" / f"{report.exhibits[0].scan.id}.png").convert("RGB")).astype(
            int
        )
        last = picture[:, -picture.shape[1] // 4 :]
        for colour in ((230, 159, 0), (86, 180, 233)):
            assert (np.abs(last - colour).max(axis=-1) < 20).sum() > 50
