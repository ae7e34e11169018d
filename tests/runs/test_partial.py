"""A volume that was interrupted half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from scans_of import preset_of, volume_of
from seeing_segmenter import SeeingSegmenter

from lexiseg.errors import UnwritableResult
from lexiseg.io.read import read_scan
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.ledger import read_ledger
from lexiseg.runs.partial import PartialVolume, key_of
from lexiseg.runs.segment import RunOptions, RunProgress, RunSummary
from lexiseg.runs.table import read_results
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

DEPTH = 40
HELPERS = Path(__file__).parents[1] / "helpers"


class Encoder(NamedColours):
    """Counts what it looks at, and may take its time or fail."""

    precision = "float32"

    def __init__(self, pause: float = 0.0, fails_after: int = 10**9, error: type[BaseException] = KeyboardInterrupt):
        super().__init__()
        self.pause, self.fails_after, self.error, self.seen = pause, fails_after, error, 0

    def encode_dense_and_image(self, pixels: Any) -> Any:
        self.seen += len(pixels)
        time.sleep(self.pause)
        if self.seen > self.fails_after:
            raise self.error
        return super().encode_dense_and_image(pixels)


def pipeline(encoder: Encoder | None = None, **volume: Any) -> MedclipSam:
    preset = preset_of(
        "demo",
        saliency={"method": "dense"},
        regions={"method": "threshold"},
        presence={"threshold": 0.5, "global_weight": 0.0},
        volume={"gate": 0.9, "max_gap": 4, "batch": 1, **volume},
    )
    return MedclipSam(preset, encoder or Encoder(), SeeingSegmenter())


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A volume of 40 slices with something bright in 20, and a gap."""
    folder = tmp_path / "scans"
    folder.mkdir()
    values = np.random.default_rng(0).random((DEPTH, 32, 32)).astype(np.float32) * 0.05
    for k in (*range(10, 18), *range(19, 31)):
        values[k, 8:24, 6 + k // 4 : 26] = 0.9
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), folder / "a.nii.gz")
    return folder


def run(scans: Path, out: Path, using: MedclipSam | None = None, **options: Any) -> RunSummary:
    items = gather_items([scans], phrases=["bright", "red"])
    chosen = RunOptions(**options)
    return run_batch(using or pipeline(), items, out, phrases=["bright", "red"], options=chosen)


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name.endswith((".nii.gz", ".png"))}


def told(out: Path) -> list[tuple[str, ...]]:
    return [
        (row.text, row.present, row.presence, row.confidence, row.boxes) for row in read_results(out / "results.csv")
    ]


def partial(out: Path) -> Path:
    return out / "a_slices.partial"


class TestResume:
    @pytest.mark.parametrize("batch", [1, 4])
    def test_killed_half_way_it_goes_on_to_the_same_bytes(self, scans: Path, tmp_path: Path, batch: int) -> None:
        run(scans, tmp_path / "whole", pipeline(batch=batch))
        out = tmp_path / "killed"
        script = (
            "import sys; from pathlib import Path; batch = int(sys.argv.pop(3)); sys.path[:0] = sys.argv[3:]\n"
            "import test_partial as t\n"
            "t.run(Path(sys.argv[1]), Path(sys.argv[2]), t.pipeline(t.Encoder(pause=0.05), batch=batch))\n"
        )
        paths = [str(Path(__file__).parent), str(HELPERS)]
        child = subprocess.Popen([sys.executable, "-c", script, str(scans), str(out), str(batch), *paths])
        try:
            for _ in range(1200):
                if partial(out).exists() and partial(out).stat().st_size > 100:
                    break
                assert child.poll() is None, "it ended before anything was written down"
                time.sleep(0.05)
            os.kill(child.pid, signal.SIGKILL)
        finally:
            child.kill()
            child.wait()
        assert partial(out).exists() and outputs(out) == {}
        encoder = Encoder()
        summary = run(scans, out, pipeline(encoder, batch=batch), resume=True)
        assert (summary.done, summary.failed) == (1, 0)
        assert 0 < encoder.seen < DEPTH
        assert outputs(out) == outputs(tmp_path / "whole") and told(out) == told(tmp_path / "whole")
        assert not partial(out).exists()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_stopped_it_loses_no_slice(self, scans: Path, tmp_path: Path, error: type[BaseException]) -> None:
        run(scans, tmp_path / "whole")
        out = tmp_path / "out"
        with pytest.raises(error):
            run(scans, out, pipeline(Encoder(fails_after=21, error=error)))
        encoder = Encoder()
        run(scans, out, pipeline(encoder), resume=True)
        assert encoder.seen == DEPTH - 21
        assert outputs(out) == outputs(tmp_path / "whole") and told(out) == told(tmp_path / "whole")

    def test_a_torn_end_costs_the_slice_that_it_was_of(self, scans: Path, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path, pipeline(Encoder(fails_after=21)))
        content = partial(tmp_path).read_bytes()
        partial(tmp_path).write_bytes(content[:-1])
        encoder = Encoder()
        run(scans, tmp_path, pipeline(encoder), resume=True)
        assert encoder.seen == DEPTH - 20

    def test_other_settings_or_another_scan_begin_anew(self, scans: Path, tmp_path: Path) -> None:
        for change in ("settings", "scan", "phrases"):
            out = tmp_path / change
            with pytest.raises(KeyboardInterrupt):
                run(scans, out, pipeline(Encoder(fails_after=21)))
            encoder, phrases, settings = Encoder(), ["bright", "red"], {}
            if change == "settings":
                settings = {"gate": 0.5}
            elif change == "phrases":
                phrases = ["red", "bright"]
            else:
                scan = nibabel.load(scans / "a.nii.gz")
                values = scan.get_fdata().astype(np.float32)
                values[0, 0, 0] += 0.01
                nibabel.save(nibabel.Nifti1Image(values, scan.affine), scans / "a.nii.gz")
            items = gather_items([scans], phrases=phrases)
            run_batch(pipeline(encoder, **settings), items, out, phrases=phrases, options=RunOptions(resume=True))
            assert encoder.seen == DEPTH, change
            assert not partial(out).exists()

    def test_without_resume_it_goes(self, scans: Path, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path, pipeline(Encoder(fails_after=21)))
        encoder = Encoder()
        run(scans, tmp_path, pipeline(encoder))
        assert encoder.seen == DEPTH and not partial(tmp_path).exists()

    def test_a_second_kill_before_anything_new_loses_nothing(self, scans: Path, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path, pipeline(Encoder(fails_after=21)))
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path, pipeline(Encoder(fails_after=0)), resume=True)
        assert "a" in read_ledger(tmp_path).slugs
        encoder = Encoder()
        run(scans, tmp_path, pipeline(encoder), resume=True)
        assert encoder.seen == DEPTH - 21

    def test_killed_after_the_masks_were_written_it_is_removed(self, scans: Path, tmp_path: Path) -> None:
        run(scans, tmp_path)
        partial(tmp_path).write_bytes(b"left")
        before = outputs(tmp_path)
        summary = run(scans, tmp_path, pipeline(), resume=True)
        assert summary.skipped == 1 and outputs(tmp_path) == before and not partial(tmp_path).exists()
        partial(tmp_path).write_bytes(b"left")
        run(scans, tmp_path, pipeline())
        assert not partial(tmp_path).exists()

    def test_where_stages_are_saved_nothing_is_written_down_and_that_is_said(
        self, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path, pipeline(Encoder(fails_after=21)), save_stages=True)
        assert not partial(tmp_path).exists()
        # Once a run, however many volumes it has.
        assert caplog.text.count("a volume that is interrupted half-way is begun anew by --resume") == 1

    def test_slices_are_told(self, scans: Path, tmp_path: Path) -> None:
        seen: list[RunProgress] = []
        items = gather_items([scans], phrases=["bright"])
        run_batch(pipeline(), items, tmp_path, phrases=["bright"], progress=seen.append)
        during = [(each.slice, each.slices) for each in seen if each.slices]
        assert during == [(k, DEPTH) for k in range(DEPTH + 1)]


class TestFile:
    def journal(self, path: Path, key: str = "k", **options: Any) -> PartialVolume:
        return PartialVolume(path, key, announce=lambda: None, **options)

    def test_what_was_kept_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        slices = {k: (bytes([k]) * k, b"", b"z") for k in range(20)}
        first = self.journal(path, every=7)
        assert first.recall() == {}
        for index, each in slices.items():
            first.keep(index, each)
        assert len(self.journal(path).recall()) == 14
        first.flush()
        assert self.journal(path).recall() == slices
        again = self.journal(path)
        again.recall()
        again.keep(20, (b"more",))
        again.flush()
        assert self.journal(path).recall() == {**slices, 20: (b"more",)}

    def test_it_is_announced_before_it_is_there(self, tmp_path: Path) -> None:
        path, seen = tmp_path / "x", []
        journal = PartialVolume(path, "k", announce=lambda: seen.append(path.exists()), every=1)
        journal.keep(0, (b"a",))
        journal.keep(1, (b"b",))
        assert seen == [False] and path.exists()

    def test_any_byte_changed_costs_what_comes_after_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        journal = self.journal(path, every=1)
        for k in range(4):
            journal.keep(k, (b"slice", bytes([k])))
        whole = path.read_bytes()
        for at in range(0, len(whole), 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            found = self.journal(path).recall()
            assert len(found) < 4 and all(found[k] == (b"slice", bytes([k])) for k in found)
            # What is left of the file is whole.
            after = self.journal(path, every=1)
            assert after.recall() == found
            after.keep(9, (b"new",))
            assert self.journal(path).recall() == {**found, 9: (b"new",)}

    def test_a_time_after_which_few_are_written_too(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        self.journal(path, every=100, seconds=0).keep(0, (b"a",))
        assert self.journal(path).recall() == {0: (b"a",)}

    def test_a_file_system_that_refuses_is_told(self, tmp_path: Path) -> None:
        journal = self.journal(tmp_path / "missing" / "x", every=1)
        with pytest.raises(UnwritableResult, match="slices could not be written down"):
            journal.keep(0, (b"a",))


def test_the_key_is_of_everything_that_decides_an_answer(scans: Path) -> None:
    scan = read_scan(scans / "a.nii.gz", id="a")
    assert isinstance(scan, Volume)
    settings, planes = {"preset": {"name": "demo"}, "seed": 0}, {"plane": "axial"}
    own = key_of(settings, ["a"], scan, planes)
    moved = Geometry(scan.geometry.shape, scan.geometry.affine + np.eye(4) * 1e-9)
    others = [
        key_of({**settings, "seed": 1}, ["a"], scan, planes),
        key_of(settings, ["b"], scan, planes),
        key_of(settings, ["a"], volume_of(np.asarray(scan.values, np.float32) + 1), planes),
        key_of(settings, ["a"], Volume(scan.values, moved), planes),
        key_of(settings, ["a"], scan, {"plane": "coronal"}),
    ]
    assert len({own, *others}) == 6
    assert key_of(dict(settings), ("a",), read_scan(scans / "a.nii.gz", id="other"), planes) == own
