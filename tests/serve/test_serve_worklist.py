"""Many scans: doubtful first, leased, judged, exported."""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import UNEVEN
from dicom_series import write_series as write_slices
from fake_pipeline import FakePipeline
from PIL import Image as Pillow
from serving import RED, boxed, browser, picture, serving
from study_files import AFFINES, VALUES, write_series

from lexiseg.datasets.manifest import read_manifest
from lexiseg.errors import UsageError
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.review import Review, doubt
from lexiseg.runs.table import Row, read_results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scans = tmp_path / "scans"
    scans.mkdir()
    for k, name in enumerate(("a", "b", "c")):
        (scans / f"{name}.png").write_bytes(picture((16 + k, 16, 32, 48)))
    (scans / "broken.png").write_bytes(b"no picture")
    return scans


def segmented(client: Any) -> dict[str, Any]:
    """The list once the background run is over."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told: dict[str, Any] = client.get("/api/v1/worklist").json()
        if told["segmented"] == told["total"]:
            return told
        assert not told["error"], told["error"]
        time.sleep(0.05)
    raise AssertionError(told)


def table(folder: Path) -> dict[str, Row]:
    return {row.id: row for row in read_results(folder / "results.csv")}


class TestWorklist:
    def test_from_a_folder_to_a_training_set(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with serving(tmp_path / "state", folder=folder, results=out, phrases=("red",)) as (server, client):
            told = segmented(client)
            assert [each["state"] for each in told["items"]] == ["todo", "todo", "todo", "failed"]
            assert told["items"][-1]["name"] == "broken" and "content is not" in told["items"][-1]["error"]
            doubts = [each["doubt"] for each in told["items"][:3]]
            assert doubts == sorted(doubts, reverse=True)
            assert server.worklist is not None
            server.worklist._thread.join(30)  # type: ignore[union-attr]

            mine, other = client.post("/api/v1/worklist/next").json(), browser(client)
            first, scan = mine["item"], mine["scan"]
            theirs = other.post("/api/v1/worklist/next").json()
            assert theirs["item"]["id"] != first["id"]
            refused = other.post(f"/api/v1/worklist/{first['id']}/open")
            assert refused.status_code == 409 and "somebody else" in refused.json()["error"]
            again = client.post(f"/api/v1/worklist/{first['id']}/open").json()
            assert again["scan"]["id"] == scan["id"]
            assert scan["targets"][0]["name"] == "red" and scan["targets"][0]["pixels"] > 0

            edit = {"kind": "paint", "points": [[1.5, 1.5]], "radius": 0.5}
            client.post(f"/api/v1/scans/{scan['id']}/targets/1/edits", json=edit).raise_for_status()
            said = client.post(f"/api/v1/worklist/{first['id']}/verdict", json={"verdict": "accepted", "seconds": 3.25})
            assert said.json() == {"state": "corrected", "seconds": 3.2}
            other.post(f"/api/v1/worklist/{theirs['item']['id']}/verdict", json={"verdict": "accepted", "seconds": 1})
            third = client.post("/api/v1/worklist/next").json()
            client.post(f"/api/v1/worklist/{third['item']['id']}/verdict", json={"verdict": "rejected", "seconds": 1})
            assert client.post("/api/v1/worklist/next").json() == {"item": None, "scan": None}
            done = client.get("/api/v1/worklist").json()
            assert (done["done"], done["total"]) == (3, 4)
            exported = client.post("/api/v1/worklist/export").json()

        rows = table(out)
        corrected = rows[first["name"]]
        assert (corrected.reviewed, corrected.review, corrected.review_seconds) == ("true", "corrected", "3.2")
        assert rows["broken"].reviewed == "" and rows[third["item"]["name"]].review == "rejected"
        (manifest,) = (Path(path) for path in exported["manifests"])
        kept = {row.id: row for row in read_manifest(manifest)}
        assert set(kept) == {first["name"], theirs["item"]["name"]} and all(not row.error for row in kept.values())
        row = kept[first["name"]]
        assert row.text == "red" and row.mask is not None
        mask = np.asarray(Pillow.open(row.mask)) > 0
        before = np.asarray(Pillow.open(out / f"{first['name']}_mask.png")) > 0
        assert mask[1, 1] and (mask ^ before).sum() == 1

    def test_a_finished_run_is_looked_through_and_a_restart_knows_it(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with serving(tmp_path / "one", folder=folder, results=out, phrases=("red", "green")) as (server, client):
            segmented(client)
            assert server.worklist is not None
            server.worklist._thread.join(30)  # type: ignore[union-attr]
        with serving(tmp_path / "two", results=out) as (_, client):
            told = client.get("/api/v1/worklist").json()
            assert told["total"] == 4 and "red: present; green: absent" in {each["verdict"] for each in told["items"]}
            opened = client.post("/api/v1/worklist/next").json()
            assert [each["name"] for each in opened["scan"]["targets"]] == ["red", "green"]
            client.post(f"/api/v1/worklist/{opened['item']['id']}/verdict", json={"verdict": "accepted"})
        with serving(tmp_path / "three", results=out) as (_, client):
            states = {each["name"]: each["state"] for each in client.get("/api/v1/worklist").json()["items"]}
            assert states[opened["item"]["name"]] == "accepted"
            exported = client.post("/api/v1/worklist/export").json()
            assert [Path(path).name for path in exported["manifests"]] == ["manifest_red.csv", "manifest_green.csv"]
            assert [shlex.split(line)[2:] for line in exported["train"]] == [
                ["--masks", str(out / "reviewed" / f"manifest_{name}.csv"), "--out", f"student_{name}"]
                for name in ("red", "green")
            ]

    def test_what_cannot_be_started(self, folder: Path, tmp_path: Path) -> None:
        with (
            pytest.raises(UsageError, match="give --text to segment"),
            serving(tmp_path / "state", folder=folder, results=tmp_path / "out"),
        ):
            pass
        for number in (2, 3):
            write_series(tmp_path / "study" / str(number), VALUES + number, AFFINES["axial"])
        with (
            pytest.raises(UsageError, match="lexiseg serve has no such options: give them to"),
            serving(tmp_path / "state", folder=tmp_path / "study", results=tmp_path / "out", phrases=("red",)),
        ):
            pass
        with serving(tmp_path / "plain") as (_, client):
            reply = client.get("/api/v1/worklist")
            assert reply.status_code == 404 and "--folder" in reply.json()["error"]

    def test_slices_of_unequal_distances_are_accepted_and_corrected(self, tmp_path: Path) -> None:
        write_slices(tmp_path / "scans" / "ct", UNEVEN)
        out = tmp_path / "out"
        run_batch(
            FakePipeline(), gather_items([tmp_path / "scans"], phrases=("red", "green")), out, phrases=("red", "green")
        )
        with serving(tmp_path / "state", results=out) as (_, client):
            scan = client.post("/api/v1/worklist/0/open").json()["scan"]
            said = {"verdict": "accepted", "seconds": 1}
            assert client.post("/api/v1/worklist/0/verdict", json=said).json()["state"] == "accepted"
            edit = {"kind": "clear", "axis": scan["acquired"], "plane": 2}
            client.post(f"/api/v1/scans/{scan['id']}/targets/1/edits", json=edit).raise_for_status()
            said = {"verdict": "corrected", "seconds": 1}
            assert client.post("/api/v1/worklist/0/verdict", json=said).json()["state"] == "corrected"
            told = client.post("/api/v1/worklist/export").json()
            manifests = told["manifests"]
            assert told["left_out"] == []
            # An empty mask has no part in a SEG, and so no file for a manifest.
            for plane in range(5):
                edit = {"kind": "clear", "axis": scan["acquired"], "plane": plane}
                client.post(f"/api/v1/scans/{scan['id']}/targets/1/edits", json=edit).raise_for_status()
            client.post("/api/v1/worklist/0/verdict", json=said).raise_for_status()
            assert client.post("/api/v1/worklist/export").json()["left_out"] == ["ct"]
        with serving(tmp_path / "again", results=out) as (_, client):
            again = client.post("/api/v1/worklist/0/open").json()["scan"]
            assert not again["notes"] or "no file can hold" not in again["notes"][0]
            pixels = [target["slices"][scan["acquired"]] for target in again["targets"]]
            assert pixels[0] == [] and 2 in pixels[1]
        (part,) = pydicom.dcmread(out / "reviewed" / "masks" / "ct_mask.seg.dcm").SegmentSequence
        assert part.SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert {row.mask for path in manifests for row in read_manifest(Path(path))} == {
            out / "reviewed" / "masks" / "ct_mask.seg.dcm"
        }

    def test_a_scan_whose_mask_no_file_can_hold_says_so(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(tmp_path / "s", folder=folder, results=tmp_path / "o", phrases=("red",)) as (_, client):
            segmented(client)
            monkeypatch.setattr("lexiseg.runs.review.why_not_kept", lambda scan, **_: "it is no DICOM")
            notes = client.post("/api/v1/worklist/0/open").json()["scan"]["notes"]
            assert notes[0] == "no file can hold its mask (it is no DICOM), so it can only be rejected or skipped"

    def test_one_server_at_a_time(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with serving(tmp_path / "one", folder=folder, results=out, phrases=("red",)) as (_, client):
            segmented(client)
            with (
                pytest.raises(UsageError, match="another lexiseg serve goes through these results"),
                serving(tmp_path / "two", results=out),
            ):
                pass
        with serving(tmp_path / "two", results=out) as (_, client):
            assert client.get("/api/v1/worklist").status_code == 200
        assert not list(out.glob(".*.lock"))


class TestReview:
    def test_doubt(self) -> None:
        def row(presence: str, confidence: str = "", verdict: str = "present", status: str = "ok") -> Row:
            return Row(id="a", image="a", text="x", preset="demo", presence=presence, confidence=confidence,
                       verdict=verdict, status=status)  # fmt: skip

        assert doubt([row("0.3")], 0.3) == 1
        assert doubt([row("1.0", "0.75")], 0.3) == pytest.approx(0.25)
        assert doubt([row("0.15", "1")], 0.3) == pytest.approx(0.5)
        assert doubt([row("0.65")], 0.3) == pytest.approx(0.5)
        assert doubt([row("0.65"), row("1.0", "0.1")], 0.3) == pytest.approx(0.9)
        assert doubt([row("0.3", verdict="unknown"), row("", status="failed")], 0.3) == 0
        assert doubt([row("", "")], None) == 0
        assert doubt([row("1.0", "0.9")], 0.3, 0.4) == pytest.approx(0.4)
        assert doubt([row("", status="failed")], 0.3, 0.4) == 0

    def test_what_a_student_is_unsure_of_comes_first(self, tmp_path: Path) -> None:
        from lexiseg.io.sources import Source
        from lexiseg.runs.items import RunItem

        def saved(name: str, values: np.ndarray) -> None:
            Pillow.fromarray(values.astype(np.uint8)).save(tmp_path / name)

        mask, unsure = boxed(*RED), np.zeros((64, 64))
        unsure[16:48, 16:32] = 51
        unsure[0:2, 0:4] = 255
        saved("a_mask.png", mask * 255)
        saved("a_uncertainty.png", unsure)
        saved("b_mask.png", mask * 255)
        saved("b_uncertainty.png", unsure * 0)
        review = Review(tmp_path)
        items = [RunItem(id=name, source=Source.of_file(name), shown=name, phrases=("red",)) for name in "abc"]
        expected = (mask.sum() * 0.2 + 8) / (mask.sum() + 8)
        assert review.uncertainty(items[0]) == pytest.approx(expected, rel=1e-6)
        assert [review.uncertainty(item) for item in items[1:]] == [0, 0]

    def test_an_older_table_gains_the_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "results.csv"
        from lexiseg.runs.table import COLUMNS, write_results

        write_results(path, [Row(id="a", image="a.png", text="x", preset="demo")])
        with path.open(newline="") as file:
            cells = [line[: COLUMNS.index("reviewed")] for line in csv.reader(file)]
        path.write_text("".join(",".join(line) + "\n" for line in cells))
        assert read_results(path)[0].review == ""
        Review(tmp_path).settle()
        assert path.read_text().splitlines()[0] == ",".join(COLUMNS)

    def test_a_lease_ends(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(tmp_path / "s", folder=folder, results=tmp_path / "o", phrases=("red",)) as (server, _):
            found = server.worklist
            assert found is not None and found.leases.take("a", "one") and not found.leases.take("a", "two")
            monkeypatch.setattr("lexiseg.serve.leases.LEASE", -1.0)
            assert found.leases.take("a", "one") and found.leases.take("a", "two")
            assert boxed(*RED).any()
