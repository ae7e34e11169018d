"""What is left of a server: after kill -9, after Ctrl-C, on a full disk, beside another one."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import RED, Command, asked, boxed, browser, picture, sent, serving, unpacked

from lexiseg.errors import UsageError
from lexiseg.serve.state import RECOVERABLE, State

LAUNCHED = "lexiseg/serve"


def painted(client: Any, scan: str) -> dict[str, Any]:
    """A target that two strokes and an undo made."""
    client.post(f"/api/v1/scans/{scan}/targets", json={"name": "cyst"}).raise_for_status()
    for x in (10.5, 30.5, 50.5):
        change = {"kind": "paint", "points": [[x, 20.5]], "radius": 4.0}
        client.post(f"/api/v1/scans/{scan}/targets/1/edits", json=change).raise_for_status()
    client.post(f"/api/v1/scans/{scan}/undo").raise_for_status()
    return mask_of(client, scan)


def mask_of(client: Any, scan: str) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/api/v1/scans/{scan}/targets/1/planes/image/0").json()["mask"]
    return told


class TestTheCommand:
    def test_every_edit_is_there_after_kill_9_and_nothing_after_ctrl_c(self, tmp_path: Path) -> None:
        first = Command("--port", "0", state_home=tmp_path)
        port = first.address.rstrip("/").rpartition(":")[2]
        scan = sent(first.client)["id"]
        before = painted(first.client, scan)
        cookies = dict(first.client.cookies)
        folder = tmp_path / LAUNCHED / f"port-{port}"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        first.kill()
        assert folder.is_dir()

        second = Command("--port", port, state_home=tmp_path, cookies=cookies)
        assert mask_of(second.client, scan) == before
        told = second.client.get(f"/api/v1/scans/{scan}").json()
        assert told["can_undo"] and told["can_redo"]
        redone = second.client.post(f"/api/v1/scans/{scan}/redo").json()
        assert unpacked(redone["changed"]["image/0"])[20, 50]

        third = subprocess_refused("--port", port, state_home=tmp_path)
        assert f"port {port} is in use" in third
        assert second.stop() == 130
        assert not folder.exists()


def subprocess_refused(*options: str, state_home: Path) -> str:
    """What a command says that cannot start."""
    with pytest.raises(AssertionError) as caught:
        Command(*options, state_home=state_home)
    return str(caught.value)


class TestRecovery:
    def test_a_kept_folder_gives_all_back(self, tmp_path: Path) -> None:
        with serving(tmp_path / "kept") as (_, client):
            scan = sent(client)["id"]
            asked(client, scan, "red")
            client.post(f"/api/v1/scans/{scan}/targets/1/edits", json={"kind": "click", "x": 50.5, "y": 50.5})
            client.put(f"/api/v1/scans/{scan}/threshold", json={"value": 0.25})
            before = client.get(f"/api/v1/scans/{scan}").json()
            mask = mask_of(client, scan)
            cookies = client.cookies
        with serving(tmp_path / "kept") as (_, client):
            client.cookies = cookies
            assert client.get(f"/api/v1/scans/{scan}").json() == before
            assert mask_of(client, scan) == mask
            # The model's prompts are there too: the next click goes on from them.
            client.post(f"/api/v1/scans/{scan}/targets/1/edits", json={"kind": "click", "x": 8.5, "y": 8.5})
            expected = boxed(*RED) | boxed(49, 49, 52, 52) | boxed(7, 7, 10, 10)
            np.testing.assert_array_equal(unpacked(mask_of(client, scan)), expected)

    def test_a_torn_line_is_dropped_and_a_damaged_one_is_said(self, tmp_path: Path) -> None:
        with serving(tmp_path / "kept") as (_, client):
            scan = sent(client)["id"]
            painted(client, scan)
            cookies = client.cookies
        (steps,) = (tmp_path / "kept").rglob("steps.jsonl")
        whole = steps.read_bytes()
        lines = whole.splitlines(keepends=True)
        steps.write_bytes(whole[:-5])
        with serving(tmp_path / "kept") as (_, client):
            client.cookies = cookies
            # The undo was torn off: three strokes.
            assert unpacked(mask_of(client, scan))[20, 50]
            assert client.get(f"/api/v1/scans/{scan}").json()["notes"][0].startswith("format")
        assert steps.read_bytes() == b"".join(lines[:-1])
        steps.write_bytes(b"".join([*lines[:3], lines[3].replace(b"paint", b"PAINT"), *lines[4:]]))
        with serving(tmp_path / "kept") as (_, client):
            client.cookies = cookies
            note = client.get(f"/api/v1/scans/{scan}").json()["notes"][0]
            assert note == f"{len(lines) - 3} saved changes were damaged on the disk and are left out"
            assert steps.with_suffix(".damaged").is_file()
            assert client.post(f"/api/v1/scans/{scan}/targets/1/edits", json={"kind": "clear"}).status_code == 200

    def test_a_newer_versions_record_is_read(self, tmp_path: Path) -> None:
        with serving(tmp_path / "kept") as (_, client):
            scan = sent(client)["id"]
            before = painted(client, scan)
            cookies = client.cookies
        (record,) = (tmp_path / "kept").rglob("scan.json")
        record.write_text(json.dumps({**json.loads(record.read_text()), "modality": "US"}))
        with serving(tmp_path / "kept") as (_, client):
            client.cookies = cookies
            assert mask_of(client, scan) == before

    @pytest.mark.parametrize("how", ["torn", "no record", "unread"])
    def test_a_scan_whose_record_cannot_be_read_stays_on_the_disk(
        self, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with serving(tmp_path / "kept") as (_, client):
            scan = sent(client, name="Miller.png")["id"]
            painted(client, scan)
            cookies = client.cookies
        (record,) = (tmp_path / "kept").rglob("scan.json")
        files = {path: path.read_bytes() for path in record.parent.rglob("*") if path.is_file() and path != record}
        assert len(files) == 2
        whole = record.read_text()
        record.write_text({"torn": "", "no record": "[]"}.get(how, whole))

        def too_many(path: Path, *_: Any) -> str:
            raise OSError(24, "Too many open files")

        with serving(tmp_path / "kept") as (_, client), monkeypatch.context() as patch:
            if how == "unread":
                patch.setattr(Path, "read_text", too_many)
            client.cookies = cookies
            assert client.get("/api/v1/scans").json() == []
        assert {path: path.read_bytes() for path in files} == files
        (line,) = [each for each in caplog.messages if "left out" in each]
        assert "its files stay" in line and scan not in line and "Miller" not in line
        record.write_text(whole)
        with serving(tmp_path / "kept") as (_, client):
            client.cookies = cookies
            assert [each["id"] for each in client.get("/api/v1/scans").json()] == [scan]

    def test_what_was_put_aside_comes_back(self, tmp_path: Path) -> None:
        from lexiseg.serve.settings import Limits

        with serving(tmp_path / "state", limits=Limits(open_bytes=1)) as (server, client):
            scans = [sent(client)["id"] for _ in range(3)]
            masks = [painted(client, scan) for scan in scans]
            entries = server.scans.all(next(iter(server.scans._visitors)))
            assert [entry.session is None for entry in entries] == [True, True, False]
            assert [mask_of(client, scan) for scan in scans] == masks


class TestFullDisk:
    def test_an_edit_is_refused_and_the_mask_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(tmp_path / "state") as (_, client):
            scan = sent(client)["id"]
            before = painted(client, scan)
            (steps,) = (tmp_path / "state").rglob("steps.jsonl")
            content = steps.read_bytes()

            def full(_: int) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr("os.fsync", full)
                for path, body in (
                    (f"/api/v1/scans/{scan}/targets/1/edits", {"kind": "clear"}),
                    (f"/api/v1/scans/{scan}/undo", None),
                    (f"/api/v1/scans/{scan}/targets", {"name": "other"}),
                ):
                    reply = client.post(path, json=body)
                    assert reply.status_code == 507 and "the server's disk is full" in reply.json()["error"]
                reply = client.post("/api/v1/scans", files=[("files", ("b.png", picture()))])
                assert reply.status_code == 507 and str(tmp_path) not in reply.json()["error"]
                assert reply.json()["error"].startswith("the server's disk is full")
            assert mask_of(client, scan) == before and steps.read_bytes() == content
            assert [each["id"] for each in client.get("/api/v1/scans").json()] == [scan]
            assert client.post(f"/api/v1/scans/{scan}/undo").status_code == 200


class TestFolders:
    def test_two_servers_do_not_share_one(self, tmp_path: Path) -> None:
        held = State(tmp_path / "kept", port=1)
        with pytest.raises(UsageError, match="another lexiseg serve uses it"):
            State(tmp_path / "kept", port=2)
        held.close()
        State(tmp_path / "kept", port=2).close()
        assert (tmp_path / "kept").is_dir()

    def test_what_nobody_used_for_a_day_goes_at_the_next_start(self, tmp_path: Path) -> None:
        killed = {name: tmp_path / f"port-{name}" / "visitors" / "somebody" for name in ("1", "2", "3")}
        for place in killed.values():
            place.mkdir(parents=True)
        yesterday = time.time() - RECOVERABLE - 60
        for name in ("1", "2"):
            os.utime(killed[name], (yesterday, yesterday))
        running = State(None, port=4, root=tmp_path)
        state = State(None, port=1, root=tmp_path)
        assert not killed["1"].exists() and not killed["2"].parent.parent.exists()
        assert killed["3"].exists() and running.folder.exists()
        state.close()
        running.close()
        assert [path.name for path in tmp_path.iterdir()] == ["port-3"]

    def test_half_an_upload_leaves_nothing(self, tmp_path: Path) -> None:
        command = Command("--port", "0", state_home=tmp_path)
        try:
            host, port = command.address.removeprefix("http://").rstrip("/").split(":")
            with socket.create_connection((host, int(port))) as half:
                half.sendall(
                    f"POST /api/v1/scans HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 100000\r\n"
                    "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                    'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nhalf'.encode()
                )
            assert command.client.get("/api/v1/scans").json() == []
            assert not [path for path in (tmp_path / LAUNCHED).rglob("*") if path.suffix == ".png"]
        finally:
            assert command.stop() == 130
        assert "Traceback" not in "".join(command.lines)


def test_another_browser_does_not_recover_anothers_scans(tmp_path: Path) -> None:
    with serving(tmp_path / "kept") as (_, client):
        scan = sent(client)["id"]
    with serving(tmp_path / "kept") as (_, client):
        assert client.get("/api/v1/scans").json() == []
        assert browser(client).get(f"/api/v1/scans/{scan}").status_code == 404
