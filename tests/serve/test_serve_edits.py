"""Corrections over HTTP: edits, undo, locks, and a mask that is carried through a volume."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import SeriesPlan, volume_of_series, write_series
from serving import SIZE, asked, boxed, edit, fake_models, finished, sent, serving, unpacked, volume
from starlette.testclient import TestClient

from lexiseg.serve.exports import export_files
from lexiseg.session import Session
from lexiseg.session.deltas import squeeze
from lexiseg.session.target import Found


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with serving(tmp_path / "state") as (_, found):
        yield found


def test_a_locked_target_is_not_changed(client: TestClient) -> None:
    scan = sent(client)
    asked(client, scan["id"], "red")
    path = f"/api/v1/scans/{scan['id']}/targets/1"
    assert client.patch(path, json={"locked": True, "colour": "#00ff00", "name": "blood"}).json()["name"] == "blood"
    refused = edit(client, scan["id"], 1, kind="fill")
    assert refused.status_code == 400 and "'blood' is locked" in refused.json()["error"]
    client.patch(path, json={"locked": False})
    assert edit(client, scan["id"], 1, kind="fill").status_code == 200


def test_a_mask_is_carried_to_its_neighbours_as_one_step(client: TestClient, tmp_path: Path) -> None:
    scan = volume(client, tmp_path)["id"]
    client.post(f"/api/v1/scans/{scan}/targets", json={"name": "vessel"})
    empty = edit(client, scan, 1, kind="propagate", plane=3)
    assert "there is no mask" in finished(client, empty.json()["job"])["error"]
    edit(client, scan, 1, kind="box", plane=3, box=[4, 4, 12, 12])
    reply = edit(client, scan, 1, kind="propagate", plane=3)
    told = finished(client, reply.json()["job"])
    assert told["state"] == "done" and len(told["changed"]) >= 2 and told["can_undo"]
    reached = client.get(f"/api/v1/scans/{scan}").json()["targets"][0]["slices"]["axial"]
    assert len(reached) == 1 + len(told["changed"])
    client.post(f"/api/v1/scans/{scan}/undo")
    assert client.get(f"/api/v1/scans/{scan}").json()["targets"][0]["slices"]["axial"] == [3]


def test_a_corrected_plane_is_not_carried_over(client: TestClient, tmp_path: Path) -> None:
    scan = volume(client, tmp_path)["id"]
    client.post(f"/api/v1/scans/{scan}/targets", json={"name": "vessel"})
    edit(client, scan, 1, kind="box", plane=3, box=[4, 4, 12, 12])
    edit(client, scan, 1, kind="paint", plane=4, points=[[10, 25]], radius=2)
    told = finished(client, edit(client, scan, 1, kind="propagate", plane=3).json()["job"])
    assert told["kept"] == [4] and not {"axial/4", "axial/5"} & set(told["changed"])


def test_an_undo_that_shows_or_hides_what_was_found_changes_every_plane(client: TestClient) -> None:
    scan = sent(client)["id"]
    asked(client, scan, "red")
    client.put(f"/api/v1/scans/{scan}/threshold", json={"value": 1.0})
    paint = {"kind": "paint", "points": [[50.5, 50.5]], "radius": 0}
    # The mask that was found was hidden, and is left out from here on.
    assert not edit(client, scan, 1, **paint).json()["everything"]
    second = edit(client, scan, 1, **{**paint, "points": [[60.5, 60.5]]}).json()
    assert not second["everything"] and set(second["changed"]) == {"image/0"}
    client.put(f"/api/v1/scans/{scan}/threshold", json={"value": 0.0})
    back = [client.post(f"/api/v1/scans/{scan}/undo").json() for _ in range(2)]
    assert [each["everything"] for each in back] == [False, True]
    assert client.post(f"/api/v1/scans/{scan}/redo").json()["everything"]
    # An edit of what was shown; taken back, the threshold hides the whole of it.
    client.post(f"/api/v1/scans/{scan}/undo")
    edit(client, scan, 1, **paint)
    client.put(f"/api/v1/scans/{scan}/threshold", json={"value": 1.0})
    assert client.post(f"/api/v1/scans/{scan}/undo").json()["everything"]


def test_undo_of_a_locked_target_is_refused(client: TestClient) -> None:
    scan = sent(client)["id"]
    client.post(f"/api/v1/scans/{scan}/targets", json={"name": "cyst"})
    client.patch(f"/api/v1/scans/{scan}/targets/1", json={"locked": True})
    refused = client.post(f"/api/v1/scans/{scan}/undo")
    assert refused.status_code == 400 and "'cyst' is locked" in refused.json()["error"]
    assert len(client.get(f"/api/v1/scans/{scan}").json()["targets"]) == 1


def test_every_edit(client: TestClient) -> None:
    scan = sent(client)["id"]
    made = client.post(f"/api/v1/scans/{scan}/targets", json={"name": "cyst"}).json()
    assert made["words"] == "nothing drawn yet"
    last: dict[str, Any] = {}
    for change, expected in (
        ({"kind": "box", "box": [2, 2, 12, 12]}, boxed(2, 2, 12, 12)),
        ({"kind": "paint", "points": [[7, 7]], "radius": 1.5, "erase": True}, None),
        ({"kind": "fill"}, boxed(2, 2, 12, 12)),
        ({"kind": "paint", "points": [[40.5, 40.5], [44.5, 40.5]], "radius": 0.5},
         boxed(2, 2, 12, 12) | boxed(40, 40, 45, 41)),
        ({"kind": "keep", "x": 42.5, "y": 40.5}, boxed(40, 40, 45, 41)),
        ({"kind": "clear"}, boxed(0, 0, 0, 0)),
        ({"kind": "scribble", "points": [[20.5, 20.5], [20.5, 23.5]]}, None),
        ({"kind": "clear"}, boxed(0, 0, 0, 0)),
        ({"kind": "click", "x": 30.5, "y": 30.5}, boxed(0, 0, SIZE, SIZE)),
    ):  # fmt: skip
        reply = edit(client, scan, 1, **change)
        assert reply.status_code == 200, reply.text
        last = reply.json()
        found = unpacked(last["changed"]["image/0"])
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
        else:
            assert found.any()
    offered = client.get(f"/api/v1/scans/{scan}/targets/1/candidates?axis=image&plane=0").json()["masks"]
    assert len(offered) == 3
    chosen = edit(client, scan, 1, kind="choose", candidate=1).json()
    np.testing.assert_array_equal(unpacked(chosen["changed"]["image/0"]), boxed(29, 29, 32, 32))
    assert last["ms"] >= 0


def test_an_id_of_no_decimal_digits(client: TestClient) -> None:
    scan = sent(client)["id"]
    reply = client.get(f"/api/v1/scans/{scan}/export?format=png&targets=²")
    assert reply.status_code == 400 and "by their ids" in reply.json()["error"]


class TestWhoMadeIt:
    """DICOM objects say of each target whether a model, a person or both made it."""

    @pytest.fixture
    def session(self, tmp_path: Path) -> Session:
        """Targets that a phrase found, and that are drawn from nothing."""
        scan = volume_of_series(write_series(tmp_path / "ct", SeriesPlan()), SeriesPlan())
        session = Session(fake_models().get(), scan)
        mask = np.zeros(scan.shape, np.bool_)
        mask[2, 1:4, 1:4] = True
        for phrase, presence in (("found", 0.9), ("corrected", 0.9), ("hidden", 0.01)):
            session.take(Found(phrase, "demo", scan.shape, squeeze(mask), presence, 0.9, threshold=0.3))
        for name in ("painted", "clicked", "kept"):
            session.add(name)
        for name in ("corrected", "hidden", "painted", "kept"):
            session.stroke(name, 2, np.array([[4.5, 4.5]]), 1)
        session.box("clicked", 2, (1, 1, 3, 3))
        session.keep("kept", 2, 4.5, 4.5)
        return session

    def test_in_segments_and_in_contours(self, session: Session) -> None:
        expected = {"found": "AUTOMATIC", "corrected": "SEMIAUTOMATIC", "hidden": "MANUAL", "painted": "MANUAL",
                    "clicked": "SEMIAUTOMATIC", "kept": "MANUAL"}  # fmt: skip
        seg, structures = (exported(session, kind) for kind in ("dicom-seg", "rtstruct"))
        assert {each.SegmentLabel: each.SegmentAlgorithmType for each in seg.SegmentSequence} == expected
        for each in seg.SegmentSequence:
            assert ("SegmentAlgorithmName" in each) == (each.SegmentAlgorithmType != "MANUAL")
            assert ("SegmentationAlgorithmIdentificationSequence" in each) == ("SegmentAlgorithmName" in each)
        regions = structures.StructureSetROISequence
        assert {each.ROIName: each.ROIGenerationAlgorithm for each in regions} == expected
        assert seg.ContentDescription == "Targets of prompts and of drawing by hand"
        assert "targets of prompts and of drawing by hand" in structures.StructureSetDescription

    def test_all_of_one_kind(self, session: Session) -> None:
        one, three = exported(session, "dicom-seg", "1"), exported(session, "dicom-seg", "3", "4")
        assert (one.ContentDescription, three.ContentDescription) == (
            "Targets of text prompts",
            "Targets drawn by hand",
        )

    def test_an_undo_is_what_was_before(self, session: Session) -> None:
        before = exported(session, "dicom-seg", "1")
        session.stroke("found", 2, np.array([[4.5, 4.5]]), 1)
        corrected = exported(session, "dicom-seg", "1")
        assert corrected.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
        session.undo()
        undone = exported(session, "dicom-seg", "1")
        assert undone.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
        assert undone.SOPInstanceUID == before.SOPInstanceUID


def exported(session: Session, kind: str, *ids: str) -> Any:
    ((_, content),) = export_files(session, kind, ids).items()
    return pydicom.dcmread(io.BytesIO(content))
