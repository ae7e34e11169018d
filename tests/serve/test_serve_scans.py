"""Scans and targets over HTTP, by an in-process client and a fake pipeline that finds colours."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from serving import (
    BASE,
    RED,
    SIZE,
    asked,
    boxed,
    browser,
    edit,
    fake_models,
    picture,
    sent,
    serving,
    unpacked,
    volume,
)
from starlette.testclient import TestClient

from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import load_preset
from lexiseg.serve.exports import as_command, as_python
from lexiseg.serve.scans import Source
from lexiseg.serve.settings import Limits
from lexiseg.session import Session
from lexiseg.session.deltas import squeeze
from lexiseg.session.target import Found
from lexiseg.values.scans import Image


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with serving(tmp_path / "state") as (_, found):
        yield found


class TestOneScan:
    def test_from_a_file_to_a_mask_and_back_again(self, client: TestClient) -> None:
        scan = sent(client)
        assert (scan["kind"], scan["shape"], scan["colour"]) == ("image", [SIZE, SIZE], True)
        told = asked(client, scan["id"], "red")
        assert told["state"] == "done" and told["target"]["verdict"] == "present"
        plane = client.get(f"/api/v1/scans/{scan['id']}/targets/1/planes/image/0").json()
        np.testing.assert_array_equal(unpacked(plane["mask"]), boxed(*RED))
        assert plane["boxes"] == [list(map(float, RED))]

        reply = edit(client, scan["id"], 1, kind="click", x=50.5, y=50.5).json()
        expected = boxed(*RED) | boxed(49, 49, 52, 52)
        np.testing.assert_array_equal(unpacked(reply["changed"]["image/0"]), expected)
        assert reply["can_undo"] and reply["target"]["words"] == "corrected by hand"
        back = client.post(f"/api/v1/scans/{scan['id']}/undo").json()
        np.testing.assert_array_equal(unpacked(back["changed"]["image/0"]), boxed(*RED))
        again = client.post(f"/api/v1/scans/{scan['id']}/redo").json()
        np.testing.assert_array_equal(unpacked(again["changed"]["image/0"]), expected)

    def test_pixels_of_colour_are_sent_as_they_are(self, client: TestClient) -> None:
        scan = sent(client)
        reply = client.get(f"/api/v1/scans/{scan['id']}/planes/image/0")
        assert (reply.headers["x-height"], reply.headers["x-channels"]) == (str(SIZE), "3")
        pixels = np.frombuffer(reply.content, np.uint8).reshape(SIZE, SIZE, 3)
        np.testing.assert_array_equal(pixels, np.asarray(Pillow.open(io.BytesIO(picture()))))

    def test_grey_values_come_back_within_half_a_step(self, client: TestClient, tmp_path: Path) -> None:
        scan = volume(client, tmp_path)
        values = np.asarray(nib.load(tmp_path / "ct.nii.gz").dataobj)
        assert scan["kind"] == "volume" and scan["acquired"] == "axial" and set(scan["axes"]) == {
            "axial", "coronal", "sagittal"}  # fmt: skip
        assert scan["axes"]["axial"] == {"count": 7, "height": 30, "width": 20, "spacing": [1.0, 1.0], "places": None,
            "letters": {"left": "R", "right": "L", "top": "A", "bottom": "P"}}  # fmt: skip
        low, high = scan["range"]
        reply = client.get(f"/api/v1/scans/{scan['id']}/planes/axial/3")
        sent_values = low + np.frombuffer(reply.content, "<u2").reshape(30, 20) * (high - low) / 65535
        # LPS as made: columns and rows grow as the screen's, so a plane is the file's slice transposed.
        assert np.abs(sent_values - values[:, :, 3].T).max() <= (high - low) / 65535 / 2 + 1e-6

    def test_the_threshold_asks_no_model(self, client: TestClient) -> None:
        scan = sent(client)
        presence = asked(client, scan["id"], "red")["target"]["presence"]
        reply = client.put(f"/api/v1/scans/{scan['id']}/threshold", json={"value": 1.0}).json()
        assert presence <= 1 and reply["targets"][0]["verdict"] == "absent"
        assert reply["targets"][0]["words"] == f"below your threshold, {presence:.2f}"
        reply = client.put(f"/api/v1/scans/{scan['id']}/threshold", json={"value": None}).json()
        assert reply["targets"][0]["verdict"] == "present"

    def test_why_is_shown(self, client: TestClient) -> None:
        scan = sent(client)
        asked(client, scan["id"], "red")
        told = client.get(f"/api/v1/scans/{scan['id']}/targets/1/planes/image/0?layers=saliency,region").json()
        assert (told["saliency"]["height"], told["saliency"]["width"]) == (SIZE, SIZE)
        region = unpacked(told["region"])
        assert region.any() and not (region & ~boxed(*RED)).any()

    def test_two_presets_are_two_targets(self, client: TestClient) -> None:
        scan = sent(client)
        asked(client, scan["id"], "red")
        asked(client, scan["id"], "red", preset="other")
        told = client.get(f"/api/v1/scans/{scan['id']}").json()
        assert [(each["name"], each["preset"]) for each in told["targets"]] == [
            ("red", "demo"), ("red (other)", "other")]  # fmt: skip


class TestTakeAway:
    def test_an_image(self, client: TestClient) -> None:
        scan = sent(client)["id"]
        asked(client, scan, "red")
        reply = client.get(f"/api/v1/scans/{scan}/export?format=png")
        assert reply.headers["content-disposition"] == 'attachment; filename="scan_mask.png"'
        np.testing.assert_array_equal(np.asarray(Pillow.open(io.BytesIO(reply.content))), boxed(*RED) * np.uint8(255))
        coco = json.loads(client.get(f"/api/v1/scans/{scan}/export?format=coco").content)
        assert coco["annotations"][0]["area"] == boxed(*RED).sum() and coco["categories"] == [{"id": 1, "name": "red"}]
        overlay = client.get(f"/api/v1/scans/{scan}/export?format=overlay")
        assert Pillow.open(io.BytesIO(overlay.content)).size == (SIZE, SIZE)
        refused = client.get(f"/api/v1/scans/{scan}/export?format=nifti")
        assert refused.status_code == 400 and "cannot hold this scan's mask" in refused.json()["error"]

    @pytest.mark.parametrize(
        ("name", "plain", "whole"),
        [("张伟.png", "___mask.png", "%E5%BC%A0%E4%BC%9F_mask.png"),
         ("Müller.png", "M_ller_mask.png", "M%C3%BCller_mask.png"), ("50%.png", "50%_mask.png", "")],
    )  # fmt: skip
    def test_a_file_has_its_scans_name_in_any_alphabet(
        self, client: TestClient, name: str, plain: str, whole: str
    ) -> None:
        scan = sent(client, name=name)["id"]
        asked(client, scan, "red")
        told = client.get(f"/api/v1/scans/{scan}/export?format=png").headers["content-disposition"]
        assert told == f'attachment; filename="{plain}"' + (f"; filename*=UTF-8''{whole}" if whole else "")

    def test_several_targets_are_a_zip(self, client: TestClient) -> None:
        import zipfile

        scan = sent(client)["id"]
        asked(client, scan, "red")
        asked(client, scan, "green")
        reply = client.get(f"/api/v1/scans/{scan}/export?format=png")
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            assert {"scan_mask_green.png", "scan_mask_red.png", "scan_labels.png"} <= set(archive.namelist())

    def test_of_nested_targets_the_smaller_one_is_over_the_larger(self, client: TestClient) -> None:
        import zipfile

        scan = sent(client)["id"]
        for number, (name, radius) in enumerate((("organ", 12), ("lesion", 4)), start=1):
            client.post(f"/api/v1/scans/{scan}/targets", json={"name": name})
            edit(client, scan, number, kind="paint", points=[[40.5, 40.5]], radius=radius)
        organ, lesion = (each["pixels"] for each in client.get(f"/api/v1/scans/{scan}").json()["targets"])
        reply = client.get(f"/api/v1/scans/{scan}/export?format=png")
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            labels = np.asarray(Pillow.open(archive.open("scan_labels.png")))
            note = archive.read("notes.txt").decode()
        assert (labels == 2).sum() == lesion and (labels == 1).sum() == organ - lesion
        assert f"organ: {lesion} of {organ} pixels go to lesion" in note

    def test_a_volume(self, client: TestClient, tmp_path: Path) -> None:
        import nrrd

        scan = volume(client, tmp_path)["id"]
        client.post(f"/api/v1/scans/{scan}/targets", json={"name": "vessel"})
        edit(client, scan, 1, kind="box", axis="axial", plane=2, box=[4, 4, 9, 9])
        edit(client, scan, 1, kind="paint", axis="coronal", plane=20, points=[[10.5, 3.5]], radius=0)
        for kind, read in (("nifti", nib.load), ("nrrd", nrrd.read)):
            reply = client.get(f"/api/v1/scans/{scan}/export?format={kind}")
            assert reply.status_code == 200, reply.text
            name = reply.headers["content-disposition"].partition('"')[2].rstrip('"')
            (tmp_path / name).write_bytes(reply.content)
            found = read(str(tmp_path / name))
            values = np.asarray(found.dataobj) if kind == "nifti" else found[0]
            assert values.shape == (20, 30, 7) and values.sum() == 25 + 1
            assert values[4:9, 4:9, 2].all()
        told = client.get(f"/api/v1/scans/{scan}").json()["targets"][0]
        assert told["slices"]["axial"] == [2, 3] and told["volume_mm3"] == 26 * 4

    def test_words_that_repeat_it(self, client: TestClient) -> None:
        scan = sent(client, name="my scan.png")["id"]
        asked(client, scan, "red")
        told = client.get(f"/api/v1/scans/{scan}/command").json()
        assert told["command"].startswith("lexiseg segment 'my scan.png' --text red --preset demo --out masks")
        compile(told["python"], "python", "exec")
        asked(client, scan, "green", preset="other")
        client.put(f"/api/v1/scans/{scan}/threshold", json={"value": 0.25})
        edit(client, scan, 1, kind="clear")
        lines = client.get(f"/api/v1/scans/{scan}/command").json()["command"].splitlines()
        assert lines == [
            "# corrections by hand are not repeated",
            "lexiseg segment 'my scan.png' --text red --preset demo --threshold 0.25 --out masks",
            "lexiseg segment 'my scan.png' --text green --preset other --threshold 0.25 --out masks-other",
        ]
        python = client.get(f"/api/v1/scans/{scan}/command").json()["python"]
        assert "result.save('masks', overlay=True)" in python and "result.save('masks-other', overlay=True)" in python


def test_another_segmenter_is_in_the_words_that_repeat_it() -> None:
    preset = load_preset("demo", segmenter="models/mine")
    session = Session(MedclipSam(preset, NamedColours(), FakeSegmenter()), Image(np.zeros((8, 8), np.float32)))
    found = Found("red", "demo", (8, 8), squeeze(np.ones((8, 8), np.bool_)), 0.9, 0.9)
    session.take(found)
    assert "--segmenter models/mine" in as_command(session, Source(name="a.png"))
    assert "segmenter='models/mine')" in as_python(session, Source(name="a.png"))


class TestOwners:
    def test_another_browser_finds_nothing(self, client: TestClient) -> None:
        scan = sent(client)["id"]
        other = browser(client)
        assert other.get("/api/v1/scans").json() == []
        for reply in (
            other.get(f"/api/v1/scans/{scan}"),
            other.get(f"/api/v1/scans/{scan}/planes/image/0"),
            other.post(f"/api/v1/scans/{scan}/ask", json={"phrase": "red"}),
            other.delete(f"/api/v1/scans/{scan}"),
        ):
            assert reply.status_code == 404 and "no such scan" in reply.json()["error"]
        assert client.get(f"/api/v1/scans/{scan}").status_code == 200

    def test_a_job_is_its_owners(self, client: TestClient) -> None:
        scan = sent(client)["id"]
        job = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": "red"}).json()["job"]
        assert browser(client).get(f"/api/v1/jobs/{job}").status_code == 404
        assert browser(client).delete(f"/api/v1/jobs/{job}").status_code == 404

    def test_a_second_tab_sees_the_first_ones_edits(self, client: TestClient) -> None:
        scan = sent(client)["id"]
        asked(client, scan, "red")
        second = browser(client)
        second.cookies.update(client.cookies)
        edit(second, scan, 1, kind="clear")
        assert client.get(f"/api/v1/scans/{scan}").json()["targets"][0]["pixels"] == 0
        assert second.cookies == client.cookies

    def test_a_closed_scan_is_gone_from_the_disk(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state") as (_, client):
            scan = sent(client)["id"]
            assert list((tmp_path / "state").rglob("*.png"))
            assert client.delete(f"/api/v1/scans/{scan}").status_code == 204
            assert not list((tmp_path / "state").rglob("*.png"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("../../x.png", b"nonsense", "x.png: its name ends in .png but its content is not"),
            ("..\\..\\etc", b"", "etc: the file is empty"),
            ("half.png", picture()[:100], "half.png: it is damaged or truncated"),
            ("<script>.png", b"GIF89a", "<script>.png: its name ends in .png but"),
        ],
    )
    def test_files_that_are_no_scans(self, tmp_path: Path, name: str, content: bytes, words: str) -> None:
        with serving(tmp_path / "state") as (_, client):
            reply = client.post("/api/v1/scans", files=[("files", (name, content, "image/png"))])
            assert reply.status_code == 422 and reply.json()["error"].startswith(words)
            assert "\n" not in reply.json()["error"] and str(tmp_path) not in reply.text
            assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []

    def test_names_are_labels(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state") as (_, client):
            assert sent(client, name="../../up.png")["name"] == "up.png"
            assert sent(client, name="/abs/<b>" + "y" * 500 + ".png")["name"] == "<b>" + "y" * 117
            stored = list(tmp_path.rglob("*.png"))
            assert [path.name for path in stored] == ["000000.png", "000000.png"]
            assert all(path.is_relative_to(tmp_path / "state") for path in stored)

    def test_sound_files_beside_broken_ones_are_kept(self, client: TestClient) -> None:
        files = [("files", ("a.png", picture())), ("files", ("b.png", b"no")), ("files", ("c.png", picture()))]
        reply = client.post("/api/v1/scans", files=files).json()
        assert [each["name"] for each in reply["scans"]] == ["a.png", "c.png"] and len(reply["refused"]) == 1

    def test_what_a_program_may_ask_is_told_as_a_visitor_can_do_it(self, tmp_path: Path) -> None:
        path = tmp_path / "film.nii.gz"
        nib.save(nib.Nifti1Image(np.arange(3 * 4 * 5 * 2, dtype=np.int16).reshape(3, 4, 5, 2), np.eye(4)), path)
        with serving(tmp_path / "state", limits=Limits(pixels=1000, voxels=20)) as (_, client):
            for name, content, words in (
                ("film.nii.gz", path.read_bytes(), "over the limit of 20; crop it"),
                ("large.png", picture(), "over the limit of 1000; resize it"),
            ):
                reply = client.post("/api/v1/scans", files=[("files", (name, content))])
                line = reply.json()["error"]
                assert reply.status_code == 422 and line.startswith(name) and words in line
                assert line.endswith(", or use the command lexiseg segment, which takes larger ones")
        with serving(tmp_path / "other") as (_, client):
            reply = client.post("/api/v1/scans", files=[("files", ("film.nii.gz", path.read_bytes()))])
            assert reply.json()["error"] == (
                "film.nii.gz: it holds 2 volumes; send one in a file of its own, or use the command lexiseg segment "
                "--volume N"
            )

    def test_a_body_nested_without_end_is_one_line(self, client: TestClient) -> None:
        reply = client.post("/api/v1/scans", content=b"[" * 100_000, headers={"content-type": "application/json"})
        assert reply.status_code == 422 and "no request for a phantom" in reply.json()["error"]

    def test_an_upload_that_finds_no_space_before_it_is_looked_at(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device", "/state/tmp/x")

        monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
        reply = client.post("/api/v1/scans", files=[("files", ("a.png", picture()))])
        assert reply.status_code == 507 and reply.json()["error"].startswith("the server's disk is full")

    def test_a_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", limits=Limits(pixels=1000)) as (_, client):
            reply = client.post("/api/v1/scans", files=[("files", ("bomb.png", picture()))])
            assert reply.status_code == 422 and "limit of 1000" in reply.json()["error"]

    @pytest.mark.parametrize("stated", [True, False])
    def test_too_much_is_refused_while_it_comes(self, tmp_path: Path, stated: bool) -> None:
        with serving(tmp_path / "state", limits=Limits(bytes=2**20)) as (_, client):
            request = client.build_request(
                "POST", "/api/v1/scans", files=[("files", ("large.png", b"\0" * (2**20 + 1)))]
            )
            body = request.read()
            headers = {"content-type": request.headers["content-type"]}
            parts = body if stated else (body[at : at + 65536] for at in range(0, len(body), 65536))
            reply = client.post("/api/v1/scans", content=parts, headers=headers)
            assert reply.status_code == 413 and "at most 1 MB" in reply.json()["error"]
            assert client.get("/api/v1/scans").json() == []

    @pytest.mark.parametrize(
        ("phrase", "status", "words"),
        [
            ("x" * 10_000, 422, "at most 200 characters"),
            ("   ", 400, "the phrase is empty"),
            ("123", 400, "has no letter"),
        ],
    )
    def test_phrases_that_are_none(self, client: TestClient, phrase: str, status: int, words: str) -> None:
        scan = sent(client)["id"]
        reply = client.post(f"/api/v1/scans/{scan}/ask", json={"phrase": phrase})
        assert reply.status_code == status and words in reply.json()["error"] and len(reply.text) < 400

    def test_html_in_a_phrase_stays_text(self, client: TestClient) -> None:
        scan = sent(client)["id"]
        told = asked(client, scan, "<img src=x onerror=alert(1)> red")
        assert told["target"]["name"] == "<img src=x onerror=alert(1)> red"
        assert client.get(f"/api/v1/scans/{scan}").headers["content-type"] == "application/json"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"kind": "click", "x": 64, "y": 1}, "lies outside the plane of 64 x 64"),
            ({"kind": "click", "x": "a", "y": 1}, "valid number"),
            ({"kind": "box", "box": [5, 5, 5, 9]}, "does not lie in the plane"),
            ({"kind": "keep", "x": 1, "y": 1}, "there is no mask at (1, 1)"),
            ({"kind": "choose", "candidate": 0}, "no candidate 0"),
            ({"kind": "fly"}, "kind"),
            ({"kind": "fill", "plane": 1}, "no plane 1; expected 0 to 0"),
            ({"kind": "fill", "axis": "axial"}, "no axis 'axial'; expected one of image"),
        ],
    )
    def test_edits_that_cannot_be(self, client: TestClient, change: dict[str, Any], words: str) -> None:
        scan = sent(client)["id"]
        asked(client, scan, "red")
        reply = edit(client, scan, 1, **change)
        assert reply.status_code in (400, 422) and words in reply.json()["error"], reply.text
        assert client.get(f"/api/v1/scans/{scan}").json()["targets"][0]["pixels"] == boxed(*RED).sum()

    def test_too_many_scans(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", limits=Limits(scans=1)) as (_, client):
            sent(client)
            reply = client.post("/api/v1/scans", files=[("files", ("b.png", picture()))])
            assert reply.status_code == 409 and "close some first" in reply.json()["error"]


class TestFailures:
    def test_a_pipeline_that_breaks_is_one_line(self, tmp_path: Path) -> None:
        class Broken:
            def __getattr__(self, name: str) -> Any:
                raise ValueError("PATIENT^NAME")

        with serving(tmp_path / "state", models=fake_models(Broken())) as (_, client):
            told = asked(client, sent(client)["id"], "red")
            assert told["state"] == "failed" and told["error"].startswith("internal error: ValueError")
            assert "PATIENT" not in told["error"]

    def test_the_interface_says_what_it_takes(self, client: TestClient) -> None:
        said = client.get("/api/v1/openapi.json").json()
        assert said["paths"]["/api/v1/scans/{scan}/ask"]["post"]["summary"]
        assert said["components"]["schemas"]["AskRequest"]["properties"]["phrase"]["examples"] == ["breast tumor"]
        about = client.get("/api/v1/about").json()
        assert about["formats"] and about["limits"]["phrase"] == 200 and BASE
