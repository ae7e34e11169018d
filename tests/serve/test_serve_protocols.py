"""Requests of programs that look at volumes, as their code makes them, against a server that listens."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image as Pillow
from serving import RED, SIZE, boxed, fake_models, live, picture

from lexiseg.io.nifti import nifti_bytes
from lexiseg.serve.jobs import Job
from lexiseg.serve.problems import Refused
from lexiseg.serve.protocols.desk import Desk, in_plane, label_map
from lexiseg.serve.protocols.monai_store import masks_of
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

TOKEN = "a-token-of-this-launch"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with live(tmp_path_factory.mktemp("state")) as (_, found):
        yield found


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume whose voxel axes run to left, superior and anterior: (12, 7, 10) of i, j, k."""
    path = tmp_path_factory.mktemp("scans") / "mr.nii.gz"
    rng = np.random.default_rng(0)
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 2, 7], [0, 3, 0, 9], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(rng.integers(0, 900, (12, 7, 10)).astype(np.int16), affine), path)
    return path


class MonaiClient:
    """Requests as monailabel/client/client.py makes them: http.client, its own multipart, no redirects, no cookies."""

    def __init__(self, address: str) -> None:
        self._at = urlsplit(address)
        self.headers: dict[str, str] = {}

    def method(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, Any]:
        headers = dict(self.headers)
        if body is not None:
            text = json.dumps(body) if isinstance(body, dict) else body
            kind = "application/json" if isinstance(body, dict) else "application/x-www-form-urlencoded"
            headers |= {"content-type": kind, "content-length": str(len(text))}
            body = text
        return self._sent(method, path, body, headers)

    def multipart(
        self, method: str, path: str, fields: dict[str, str], files: dict[str, Path]
    ) -> tuple[int, bytes, Any]:
        limit = "----------lImIt_of_THE_fIle_eW_$"
        body = bytearray()
        for name, value in fields.items():
            body += f'--{limit}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, file in files.items():
            head = f'--{limit}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
            body += f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + file.read_bytes() + b"\r\n"
        body += f"--{limit}--\r\n\r\n".encode()
        kind = f"multipart/form-data; boundary={limit}"
        return self._sent(
            method, path, bytes(body), {**self.headers, "content-type": kind, "content-length": str(len(body))}
        )

    def _sent(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection(self._at.hostname, self._at.port, timeout=60)
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        return reply.status, content, reply.headers


def parts_of(content: bytes, headers: Any) -> tuple[dict[str, Any], str, bytes]:
    """A multipart reply's params, and its file's name and content."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + content, policy=policy.HTTP)
    params, file = message.iter_parts()
    assert params.get_param("name", header="content-disposition") == "params"
    return json.loads(params.get_content()), str(file.get_filename()), file.get_payload(decode=True)


class TestMonaiLabel:
    def test_what_slicer_does_with_a_volume(self, address: str, volume: Path, tmp_path: Path) -> None:
        client = MonaiClient(address)
        status, content, _ = client.method("GET", "/auth/")
        assert status == 200 and json.loads(content) == {"enabled": False}
        info = json.loads(client.method("GET", "/info/")[1])
        assert set(info) == {"name", "description", "version", "labels", "models", "trainers", "strategies", "scoring",
                             "train_stats", "datastore"}  # fmt: skip
        assert info["models"]["lexiseg_text"]["type"] == "segmentation"
        assert isinstance(info["models"]["lexiseg_text"]["config"]["text"], str)
        assert client.method("GET", "/train/?check_if_running=true")[0] == 404

        opened = httpx.put(f"{address}/session/", files=[("files", (volume.name, volume.read_bytes()))],
                           data={"client_id": "me"})  # fmt: skip
        session = opened.json()["session_id"]
        assert client.method("GET", f"/session/{quote_plus(session)}")[0] == 200

        points = {"label": "tumor", "foreground": [[3, 2, 4]], "background": [], "result_extension": ".nrrd",
                  "result_dtype": "uint8", "client_id": "me"}  # fmt: skip
        status, content, headers = client.multipart(
            "POST", f"/infer/lexiseg_clicks?image={session}&session_id={session}", {"params": json.dumps(points)}, {}
        )
        assert status == 200, content
        params, name, mask = parts_of(content, headers)
        assert params["label_names"] == {"tumor": 1} and name.endswith(".nrrd")
        (tmp_path / "mask.nrrd").write_bytes(mask)
        labels, header = nrrd.read(str(tmp_path / "mask.nrrd"))
        assert labels.shape == (12, 7, 10) and labels.dtype == np.uint8 and labels[3, 2, 4] == 1
        np.testing.assert_array_equal(header["space origin"], [-5, -7, 9])
        assert header["space"] == "left-posterior-superior"

        assert client.method("DELETE", f"/session/{session}")[0] == 200
        assert client.method("GET", f"/session/{session}")[0] == 404

    def test_text_comes_through_the_config(self, address: str, tmp_path: Path) -> None:
        client = MonaiClient(address)
        (tmp_path / "red.png").write_bytes(picture())
        fields = {"params": json.dumps({"text": "red; green", "threshold": "0.5", "preset": "demo"})}
        status, content, headers = client.multipart(
            "POST", "/infer/lexiseg_text?image=", fields, {"file": tmp_path / "red.png"}
        )
        assert status == 200, content
        params, _, mask = parts_of(content, headers)
        assert params["label_names"] == {"red": 1, "green": 2}
        assert params["verdict"] == {"red": "present", "green": "absent"}
        (tmp_path / "mask.nrrd").write_bytes(mask)
        labels = nrrd.read(str(tmp_path / "mask.nrrd"))[0]
        np.testing.assert_array_equal(labels[:, :, 0].T, boxed(*RED))

    def test_nested_phrases_keep_the_smaller_one_and_say_what_the_larger_lost(
        self, address: str, tmp_path: Path
    ) -> None:
        large, small = boxed(10, 10, 40, 40), boxed(20, 20, 24, 24)
        labels, names, lost = label_map({"brain": large, "brain tumor": small})
        assert names == {"brain": 1, "brain tumor": 2} and lost == {"brain": 16}
        np.testing.assert_array_equal(labels == 2, small)
        assert label_map({"a": small, "b": small})[2] == {"b": 16}
        (tmp_path / "red.png").write_bytes(picture())
        fields = {"params": json.dumps({"text": "red; red box"})}
        _, content, headers = MonaiClient(address).multipart(
            "POST", "/infer/lexiseg_text?image=", fields, {"file": tmp_path / "red.png"}
        )
        params, _, _ = parts_of(content, headers)
        assert params["verdict"] == {"red": "present", "red box": "present"}
        assert params["lost_voxels"] == {"red box": boxed(*RED).sum()}

    def test_the_datastore_keeps_scans_and_labels(self, address: str, volume: Path, tmp_path: Path) -> None:
        client = MonaiClient(address)
        fields = {"params": json.dumps({"client_id": "me"})}
        status, content, _ = client.multipart("PUT", "/datastore/?image=case+1", fields, {"file": volume})
        assert status == 200 and json.loads(content) == {"image": "case 1"}
        status, content, headers = client.method("GET", "/datastore/image?image=case+1")
        assert content == volume.read_bytes() and "attachment" in headers["content-disposition"]
        status, content, _ = client.multipart(
            "PUT", "/datastore/label?image=case+1&tag=final", fields, {"label": volume}
        )
        assert status == 200, content
        status, content, headers = client.method("GET", "/datastore/label?label=case+1&tag=final")
        assert content == volume.read_bytes() and headers["content-disposition"].endswith('case 1.nii.gz"')
        told = json.loads(client.method("GET", "/datastore/?output=all")[1])
        assert told["objects"]["case 1"]["labels"]["final"]["ext"] == "nii.gz"
        assert json.loads(client.method("GET", "/datastore/")[1])["completed"] == 1

    @pytest.mark.parametrize(
        ("path", "params", "status", "words"),
        [
            ("/infer/other?image=x", "{}", 404, "no model 'other'"),
            ("/infer/lexiseg_text?image=none", "{}", 404, "no such scan"),
            ("/infer/lexiseg_text?image=../../etc", "{", 400, "params is no JSON"),
            ("/infer/lexiseg_text?image=x", '{"result_extension": "../x"}', 400, "result_extension"),
            ("/activelearning/doubt", "{}", 404, "--folder"),
        ],
    )
    def test_what_cannot_be(self, address: str, path: str, params: str, status: int, words: str) -> None:
        found, content, _ = MonaiClient(address).multipart("POST", path, {"params": params}, {})
        assert found == status and words in json.loads(content)["error"]

    def test_the_next_sample_is_the_most_doubtful_that_nobody_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scans = tmp_path / "scans"
        scans.mkdir()
        (scans / "a.png").write_bytes(picture())
        (scans / "b.png").write_bytes(picture((32, 48, 48, 64)))
        monkeypatch.chdir(tmp_path)
        with live(tmp_path / "s", folder=Path("scans"), results=tmp_path / "out", phrases=("red",)) as (server, at):
            assert server.worklist is not None
            server.worklist._thread.join(60)  # type: ignore[union-attr]
            samples = []
            for _ in range(3):
                status, content, _ = MonaiClient(at).method("POST", "/activelearning/doubt", {"client_id": "me"})
                assert status == 200
                samples.append(json.loads(content))
            assert {each["id"] for each in samples[:2]} == {"a", "b"} and samples[2] == {}
            # A program begins in another folder than the server.
            assert all(Path(each["path"]).is_absolute() and Path(each["path"]).is_file() for each in samples[:2])

    def test_a_label_of_the_worklist_is_a_verdict(self, tmp_path: Path) -> None:
        scans, out = tmp_path / "scans", tmp_path / "out"
        scans.mkdir()
        for name in "ab":
            (scans / f"{name}.png").write_bytes(picture())
        drawn = np.zeros((1, SIZE, SIZE), np.uint8)
        drawn[0, 3:5, 7:11] = 7
        label = tmp_path / "label.nii.gz"
        image = Volume(drawn, Geometry.of_spacing(drawn.shape, (1.0, 1.0, 1.0)))
        label.write_bytes(nifti_bytes(drawn, image))
        with live(tmp_path / "s", folder=scans, results=out, phrases=("red",)) as (server, at):
            server.worklist._thread.join(60)  # type: ignore[union-attr]
            client = MonaiClient(at)

            def submit(**params: Any) -> tuple[int, bytes, Any]:
                given = {"params": json.dumps(params)}
                return client.multipart("PUT", "/datastore/label?image=a&tag=final", given, {"label": label})

            status, content, _ = submit(label_info=[{"name": "liver", "idx": 7}])
            assert status == 422 and "holds liver; expected segments named as the phrases: 'red'" in content.decode()
            assert httpx.post(f"{at}/api/v1/worklist/0/open").status_code == 200
            status, content, _ = submit()
            assert status == 409 and "somebody else" in content.decode()
            assert not (out / "reviewed").exists()
            server.worklist.leases._held.clear()  # type: ignore[union-attr]
            status, content, _ = submit(label_info=[{"name": "liver", "idx": 1}, {"name": "Red", "idx": 7}])
            assert status == 200, content
            told = {each["name"]: each["state"] for each in httpx.get(f"{at}/api/v1/worklist").json()["items"]}
            assert told == {"a": "corrected", "b": "todo"}
            status, content, _ = client.multipart("PUT", "/datastore/?image=b", {}, {"file": scans / "a.png"})
            assert status == 409 and "is a scan of the worklist" in content.decode()
        # It outlives the server.
        kept = np.asarray(Pillow.open(out / "reviewed" / "masks" / "a_mask.png")) > 0
        np.testing.assert_array_equal(kept, drawn[0] > 0)

    def test_a_label_of_several_phrases_goes_by_names(self) -> None:
        labels = np.array([[0, 1, 2, 2]])
        found = masks_of(labels, ("brain", "brain tumor"), {1: "brain", 2: "Brain  Tumor", 3: "x"})
        assert found["brain"].tolist() == [[False, True, False, False]] and found["brain tumor"].sum() == 2
        for names in ({}, {1: "brain"}, {1: "brain", 2: "other"}):
            with pytest.raises(Refused, match="named as the phrases: 'brain', 'brain tumor'"):
                masks_of(labels, ("brain", "brain tumor"), names)
        assert masks_of(labels * 0, ("brain",), {})["brain"].sum() == 0
        with pytest.raises(Refused, match="whole numbers"):
            masks_of(labels / 2, ("brain",), {})

    def test_sessions_are_their_own_alone(self, address: str, volume: Path) -> None:
        opened = httpx.put(f"{address}/session/", files=[("files", (volume.name, volume.read_bytes()))])
        session = opened.json()["session_id"]
        told = httpx.get(f"{address}/datastore/?output=all").json()["objects"]
        assert session not in told
        assert httpx.get(f"{address}/datastore/image?image={session}").status_code == 404

    def test_a_token_is_its_password(self, tmp_path: Path) -> None:
        with live(tmp_path / "s", token=TOKEN) as (_, at):
            client = MonaiClient(at)
            assert json.loads(client.method("GET", "/auth/")[1]) == {"enabled": True}
            assert client.method("GET", "/info/")[0] == 401
            body = f"username=me&password={TOKEN}&grant_type=password"
            given = json.loads(client.method("POST", "/auth/token", body)[1])
            client.headers["Authorization"] = f"{given['token_type']} {given['access_token']}"
            assert client.method("GET", "/auth/token/valid")[0] == 200
            assert client.method("GET", "/info/")[0] == 200

    def test_slicers_own_client(self, address: str, volume: Path, tmp_path: Path) -> None:
        if sys.version_info >= (3, 13):
            pytest.skip("monailabel's client needs the module cgi, which Python 3.13 has not")
        module = pytest.importorskip(
            "monailabel.client.client", reason="monailabel is not installed (3D Slicer's client)"
        )
        client = module.MONAILabelClient(address, tmpdir=str(tmp_path), client_id="me")
        assert not client.auth_enabled() and "lexiseg_text" in client.info()["models"]
        session = client.create_session(str(volume))["session_id"]
        params = {"label": "tumor", "foreground": [[3, 2, 4]], "background": [[9, 2, 8]]}
        file, told = client.infer("lexiseg_clicks", session, params, session_id=session)
        assert told["label_names"] == {"tumor": 1} and nrrd.read(file)[0][3, 2, 4] == 1
        file, told = client.infer("lexiseg_text", session, {"text": "red"}, session_id=session)
        assert set(told["verdict"]) == {"red"} and nrrd.read(file)[0].shape == (12, 7, 10)
        assert client.upload_image(str(volume), "case")["image"] == "case"
        client.save_label("case", file, tag="final")
        assert Path(client.download_label("case", "final")).read_bytes() == Path(file).read_bytes()
        assert not client.train_status(check_if_running=True)
        client.remove_session(session)


class TestVoxTell:
    def test_naparis_own_client(self, address: str, volume: Path) -> None:
        pytest.importorskip("blosc2", reason="blosc2 is not installed (the extra voxtell)")
        module = pytest.importorskip("napari_voxtell.remote.client", reason="napari-voxtell is not installed")
        client = module.VoxTellRemoteClient(address)
        assert client.healthz() and client.capabilities()["model"] == "lexiseg demo"
        image, array, spacing, shape = client.upload_image(volume.read_bytes())
        assert array.shape == shape and spacing == (3, 2, 1)
        job = client.start_job(image, ["red"])
        assert [event["status"] for event in client.stream_events(job) if "status" in event] == ["done"]
        masks = client.get_result(job)
        assert masks.shape == (1, *shape) and masks.dtype == np.uint8
        assert client.export(image, masks[0])[:2] == b"\x1f\x8b"
        client.close()

    def test_requests_as_its_client_makes_them(self, address: str, volume: Path) -> None:
        pytest.importorskip("blosc2", reason="blosc2 is not installed (the extra voxtell)")
        from lexiseg.serve.protocols.voxtell import packed, unpacked

        image = nib.load(volume)
        ras = nib.as_closest_canonical(image)
        with httpx.Client(base_url=address, timeout=60) as client:
            assert client.get("/healthz").json()["ok"] is True
            assert client.get("/capabilities").json()["available_embeddings"]
            reply = client.post("/images", content=volume.read_bytes(), params={"include_image": "true"},
                                headers={"Content-Type": "application/octet-stream"})  # fmt: skip
            meta = json.loads(reply.headers["X-Meta"])
            array = unpacked(reply.content, 10**6)
            np.testing.assert_array_equal(array, np.asarray(ras.dataobj).transpose(2, 1, 0))
            assert meta["shape"] == list(array.shape) and meta["spacing"] == [3, 2, 1]
            request = {"image_id": meta["image_id"], "prompts": ["red", "green"], "keep_largest": True}
            job = client.post("/jobs", json=request).json()["job_id"]
            with client.stream("GET", f"/jobs/{job}/events", timeout=None) as stream:
                told = [json.loads(line) for line in stream.iter_lines() if line.strip()]
            assert told[-1]["status"] == "done"
            masks = unpacked(client.get(f"/jobs/{job}/result").content, 10**6)
            assert masks.dtype == np.uint8 and masks.shape == (2, *array.shape)
            labels = np.zeros(array.shape, np.uint8)
            labels[1, 2, 3] = 7
            reply = client.post(f"/images/{meta['image_id']}/export", content=packed(labels),
                                headers={"Content-Type": "application/octet-stream"})  # fmt: skip
            back = nib.Nifti1Image.from_bytes(__import__("gzip").decompress(reply.content))
            np.testing.assert_array_equal(back.affine, image.affine)
            np.testing.assert_array_equal(np.asarray(nib.as_closest_canonical(back).dataobj).transpose(2, 1, 0), labels)

    def test_others_go_between_two_prompts(self, tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with live(tmp_path / "s") as (server, at), httpx.Client(base_url=at, timeout=60) as client:
            order: list[str] = []
            found = Desk.find
            other = Job("somebody", lambda tell: order.append("other") or {}, "")

            def find(desk: Desk, *given: Any, **more: Any) -> Any:
                if not order:
                    server.jobs.submit(other)
                order.append(given[2][0])
                return found(desk, *given, **more)

            monkeypatch.setattr(Desk, "find", find)
            reply = client.post("/images?include_image=false", content=volume.read_bytes())
            image = json.loads(reply.headers["X-Meta"])["image_id"]
            job = client.post("/jobs", json={"image_id": image, "prompts": ["red", "green", "blue"]}).json()["job_id"]
            told = [json.loads(line) for line in client.get(f"/jobs/{job}/events").text.splitlines()]
            assert told[-1] == {"status": "done", "done": 3, "total": 3}
            assert order == ["red", "other", "green", "blue"]

    def test_prompts_without_arrays(self, address: str, volume: Path) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            reply = client.post("/images?include_image=false", content=volume.read_bytes())
            image = json.loads(reply.headers["X-Meta"])["image_id"]
            assert reply.content == b""
            job = client.post("/jobs", json={"image_id": image, "prompts": ["red"]}).json()["job_id"]
            assert client.post(f"/jobs/{job}/cancel").json()["status"] in ("cancelled", "running", "queued", "done")
            assert client.get("/jobs/none/result").status_code == 404
            assert client.post("/images", content=picture()).status_code == 422


def test_a_voxel_is_found_in_its_plane_whatever_the_orientation() -> None:
    from lexiseg.session import Session

    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 5, 6)).astype(np.float32)
    affine = np.array([[0.0, 0, 2, 0], [-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    scan = Volume(values, Geometry((4, 5, 6), affine))
    session = Session(fake_models().get(), scan)
    for i, j, k in ((0, 0, 0), (5, 4, 3), (2, 1, 3)):
        index, x, y = in_plane(session, (i, j, k))
        marked = np.zeros(scan.shape, np.bool_)
        marked[k, j, i] = True
        assert session.planes.cut(marked)[index][int(y), int(x)]
