"""Folders of series and zips: put together, named, bounded, read again after a restart."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import SeriesPlan, write_series
from serving import asked, picture, serving


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """A DICOM series of a few slices."""
    return write_series(tmp_path / "study" / "CT head", SeriesPlan())


def posted(client: Any, files: list[tuple[str, bytes]]) -> Any:
    return client.post("/api/v1/scans", files=[("files", each) for each in files])


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def test_a_folder_is_one_volume_also_after_a_restart_and_exports_as_dicom(tmp_path: Path, series: list[Path]) -> None:
    files = [(f"study/CT head/{path.name}", path.read_bytes()) for path in series]
    with serving(tmp_path / "kept") as (_, client):
        told = posted(client, [*files, ("study/readme.txt", b"hello")]).json()
        (scan,) = told["scans"]
        assert (scan["kind"], scan["name"]) == ("volume", "CT head")
        assert scan["axes"][scan["acquired"]]["count"] == len(series)
        assert told["refused"] == ["readme.txt: no picture or volume, left out"]
        client.post(f"/api/v1/scans/{scan['id']}/targets", json={"name": "brain"})
        client.post(
            f"/api/v1/scans/{scan['id']}/targets/1/edits", json={"kind": "box", "plane": 1, "box": [2, 2, 6, 6]}
        )
        seg = client.get(f"/api/v1/scans/{scan['id']}/export?format=dicom-seg")
        assert seg.status_code == 200, seg.text
        first = pydicom.dcmread(series[0], stop_before_pixels=True)
        found = pydicom.dcmread(io.BytesIO(seg.content))
        assert found.StudyInstanceUID == first.StudyInstanceUID and found.pixel_array.sum() == 16
        cookies, plane = client.cookies, client.get(f"/api/v1/scans/{scan['id']}/planes/axial/1").content
    with serving(tmp_path / "kept") as (_, client):
        client.cookies = cookies
        assert client.get(f"/api/v1/scans/{scan['id']}/planes/axial/1").content == plane
        (again,) = client.get("/api/v1/scans").json()
        assert again == {**scan, **{key: again[key] for key in ("targets", "can_undo", "version")}}
        assert again["targets"][0]["voxels"] == 16
        seg = client.get(f"/api/v1/scans/{scan['id']}/export?format=dicom-seg")
        assert pydicom.dcmread(io.BytesIO(seg.content)).pixel_array.sum() == 16


def test_a_zip_gives_its_scans(tmp_path: Path, series: list[Path]) -> None:
    content = zipped(
        {"a/one.png": picture(), "a/CT head/x": b"", **{f"b/head/{p.name}": p.read_bytes() for p in series}}
    )
    with serving(tmp_path / "state") as (_, client):
        told = posted(client, [("study.zip", content), ("alone.png", picture())]).json()
        kinds = {scan["name"]: scan["kind"] for scan in told["scans"]}
        assert kinds == {"study one.png": "image", "head": "volume", "alone.png": "image"}
        assert asked(client, told["scans"][0]["id"], "red")["state"] == "done"
        left = [path for path in (tmp_path / "state").rglob("*") if "incoming" in path.parts and path.is_file()]
        assert left == []


def test_what_has_the_same_name_is_told_apart_by_its_folder(tmp_path: Path, series: list[Path]) -> None:
    slices = {path.name: path.read_bytes() for path in write_series(tmp_path / "other", SeriesPlan(seed=1))}
    first = {path.name: path.read_bytes() for path in series}
    files = [("one/x/a.png", picture()), ("one/y/a.png", picture()), ("b.png", picture()), ("z/b.png", picture())]
    files += [("study/c.png", picture()), ("study/c.png", picture())]
    files += [("s.zip", zipped({"p/d.png": picture(), "q/d.png": picture(), "e.png": picture()}))]
    files += [("miller.zip", zipped({f"CT/{name}": content for name, content in first.items()}))]
    files += [(f"smith/CT/{name}", content) for name, content in slices.items()]
    with serving(tmp_path / "state") as (_, client):
        scans = posted(client, files).json()["scans"]
        assert sorted(scan["name"] for scan in scans) == sorted(
            ["x a.png", "y a.png", "b.png", "z b.png", "study c.png", "study c.png (2)", "s p d.png", "s q d.png",
             "s e.png", "miller CT", "smith CT"])  # fmt: skip


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("x.zip", zipped({"../../up.png": picture()}))], "x.zip: "),
        ([("x.zip", zipped({"bomb.png": bytes(2**25)}))], "x.zip: "),
        ([("x.zip", b"PK\x03\x04 no zip")], "x.zip: it is a zip that cannot be read"),
        ([("x.zip", zipped({"notes.txt": b"hello"}))], "nothing that was sent is a scan"),
        ([("a.txt", b"hello"), ("b.txt", b"hello")], "nothing that was sent is a scan"),
    ],
)
def test_what_holds_no_scan(tmp_path: Path, files: list[tuple[str, bytes]], words: str) -> None:
    with serving(tmp_path / "state") as (_, client):
        reply = posted(client, files)
        assert reply.status_code == 422 and reply.json()["error"].startswith(words), reply.text
        assert str(tmp_path) not in reply.text and not (tmp_path / "up.png").exists()
        assert [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_worklist_of_series(tmp_path: Path, series: list[Path]) -> None:
    """A series is one scan of the list; its review holds what training takes."""
    from lexiseg.datasets.manifest import read_manifest

    with serving(tmp_path / "s", folder=series[0].parent, results=tmp_path / "out", phrases=("red",)) as (
        server,
        client,
    ):
        assert server.worklist is not None and len(server.worklist.items) == 1
        server.worklist._thread.join(60)  # type: ignore[union-attr]
        assert not server.worklist.error
        opened = client.post("/api/v1/worklist/next").json()
        assert opened["scan"]["kind"] == "volume"
        change = {"kind": "box", "plane": 1, "box": [2, 2, 6, 6]}
        client.post(f"/api/v1/scans/{opened['scan']['id']}/targets/1/edits", json=change).raise_for_status()
        said = client.post(f"/api/v1/worklist/{opened['item']['id']}/verdict", json={"verdict": "corrected"})
        assert said.json()["state"] == "corrected"
        (manifest,) = client.post("/api/v1/worklist/export").json()["manifests"]
    (row,) = read_manifest(manifest)
    assert not row.error and row.mask is not None and row.image.exists()
    assert np.asarray(nib.load(row.mask).dataobj).sum() >= 16
