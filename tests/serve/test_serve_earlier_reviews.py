"""An earlier review stands for the phrases, the file and the masks that it was given of, and for nothing else."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from reviewing import LIST, kept, opened, paint, refused, reviewing, run, say, scans_in
from serving import RED, boxed, picture, serving

from lexiseg.io.sources import Source
from lexiseg.runs.items import RunItem
from lexiseg.runs.review import Review
from lexiseg.runs.table import read_results
from lexiseg.serve.worklist import Worklist


class TestAnEarlierReview:
    @pytest.fixture
    def reviewed(self, tmp_path: Path) -> tuple[Path, Path]:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        run(folder, out, "red")
        with reviewing(tmp_path / "s", None, out) as (_, client):
            paint(client, opened(client)["id"])
            assert say(client, "corrected").json()["state"] == "corrected"
            client.post(f"{LIST}/export").raise_for_status()
        return folder, out

    def test_the_same_run_keeps_it(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = reviewed
        run(folder, out, "red", resume=True)
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert (item["state"], item["note"]) == ("corrected", "")
            assert opened(client)["targets"][0]["pixels"] == boxed(*RED).sum() + 1
        assert read_results(out / "results.csv")[0].review == "corrected"

    def test_another_phrase(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = reviewed
        run(folder, out, "green")
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "todo" and "(corrected) is set aside: it was of other phrases" in item["note"]
            assert read_results(out / "results.csv")[0].review == ""
            refused(client.post(f"{LIST}/export"), "no scan was accepted", 400)
            scan = opened(client)
            assert scan["targets"][0]["pixels"] == 0 and item["note"] in scan["notes"]
            say(client, "rejected").raise_for_status()
            assert opened(client)["targets"][0]["pixels"] == 0
            assert say(client, "accepted").json() == {"state": "accepted", "seconds": 2.0}
        assert kept(out, "a").sum() == 0
        aside = np.asarray(Pillow.open(out / "reviewed" / "earlier" / "1" / "a_mask.png")) > 0
        assert aside.sum() == boxed(*RED).sum() + 1
        # What named that mask with the earlier phrase goes with it.
        assert not list((out / "reviewed").glob("manifest*.csv"))

    def test_another_file(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = reviewed
        new = picture((32, 48, 48, 64))
        (folder / "a.png").unlink()
        (folder / "a.png").write_bytes(new)
        run(folder, out, "red", resume=True)
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "todo" and "it was of another file" in item["note"]
            assert say(client, "accepted", scan=opened(client)["id"]).json()["state"] == "accepted"
            client.post(f"{LIST}/export").raise_for_status()
        np.testing.assert_array_equal(kept(out, "a"), boxed(32, 48, 48, 64))
        assert (out / "reviewed" / "images" / "a.png").read_bytes() == new

    def test_another_file_before_the_models_came_to_it(
        self, reviewed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The earlier run's answer is still in the table: it is not shown, and the scan is not given up."""
        folder, out = reviewed
        shutil.rmtree(out / "reviewed")
        (folder / "a.png").unlink()
        (folder / "a.png").write_bytes(picture((32, 48, 48, 64)))
        ready, real = threading.Event(), Worklist._segment
        monkeypatch.setattr(Worklist, "_segment", lambda worklist: (ready.wait(60), real(worklist)))
        with serving(tmp_path / "s2", folder=folder, results=out, phrases=("red",)) as (server, client):
            refused(client.post(f"{LIST}/next"), "have not answered")
            ready.set()
            server.worklist._thread.join(60)  # type: ignore[union-attr]
            scan = client.post(f"{LIST}/next").json()["scan"]
            assert scan["targets"][0]["pixels"] == boxed(32, 48, 48, 64).sum()

    def test_other_masks_of_the_same_scan(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = reviewed
        run(folder, out, "red", preset={"presence": {"threshold": 1.0}})
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "todo" and "it was of other masks" in item["note"]

    def test_a_run_of_its_own_threshold(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        """Why its mask is empty, and what is doubtful, go by the run's threshold, not by the server's."""
        folder, out = reviewed
        presence = float(read_results(out / "results.csv")[0].presence)
        least = (presence + 1) / 2
        run(folder, out, "red", preset={"presence": {"threshold": least}})
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["doubt"] == pytest.approx(1 - (least - presence) / least, abs=2e-4)
            (target,) = opened(client)["targets"]
            assert target["words"] == f"below the threshold of {least:g}, {presence:.2f}"

    def test_of_before_it_was_written_down_what_was_looked_at(
        self, reviewed: tuple[Path, Path], tmp_path: Path
    ) -> None:
        _, out = reviewed
        log = out / "reviewed" / "reviews.csv"
        log.write_text("id,review,seconds\na,accepted,1.0\n")
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "todo" and "not written down" in item["note"]
            assert opened(client)["targets"][0]["pixels"] == boxed(*RED).sum()
            say(client, "accepted").raise_for_status()
        lines = log.read_text().splitlines()
        assert lines[0] == "id,review,seconds,phrases,scan,masks" and lines[1] == "a,accepted,1.0,,,"
        assert lines[2].startswith("a,accepted,1.0,red,")
        with reviewing(tmp_path / "s3", None, out) as (_, client):
            assert client.get(LIST).json()["items"][0]["state"] == "accepted"

    def test_a_start_with_another_phrase_says_what_serve_can_do(
        self, reviewed: tuple[Path, Path], tmp_path: Path
    ) -> None:
        folder, out = reviewed
        with reviewing(tmp_path / "s2", folder, out, "green") as (_, client):
            error = client.get(LIST).json()["error"]
        assert "other phrases; start with the same, or choose another --results" in error and "resume" not in error

    def test_slices_of_an_older_series_do_not_stay_in_the_export(self, tmp_path: Path) -> None:
        slices = []
        for k in range(3):
            slices.append(tmp_path / f"{k}.dcm")
            slices[-1].write_bytes(bytes([k]))
        own = tmp_path / "reviewed" / "images" / "s"
        review = Review(tmp_path)

        def exported(files: list[Path]) -> list[bytes]:
            source = Source(path=tmp_path, place=tmp_path, files=tuple(files), content=object())  # type: ignore[arg-type]
            review._image(RunItem(id="s", source=source, shown="s", phrases=("red",)))
            return [path.read_bytes() for path in sorted(own.iterdir())]

        assert exported(slices) == [b"\0", b"\1", b"\2"]
        assert exported(slices[1:]) == [b"\1", b"\2"]
