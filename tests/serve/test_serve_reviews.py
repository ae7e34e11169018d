"""Verdicts keep what was seen: never an empty mask, another run's, another person's, or a hidden one."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reviewing import LIST, kept, opened, paint, refused, reviewing, say, scans_in
from serving import RED, asked, boxed, browser, picture

from lexiseg.errors import UnwritableResult
from lexiseg.runs.table import read_results, write_results
from lexiseg.serve.scans import RECORD


class TestUnanswered:
    def test_a_scan_that_the_models_have_not_answered_is_not_opened(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            rows = read_results(out / "results.csv")
            write_results(out / "results.csv", [])
            refused(client.post(f"{LIST}/0/open"), "have not answered")
            refused(say(client, "accepted"), "not open")
            assert client.get(LIST).json()["items"][0]["taken_by_other"] is False
            assert not client.get(LIST).json()["items"][0]["mine"]
            write_results(out / "results.csv", rows)
            assert opened(client)["targets"][0]["pixels"] == boxed(*RED).sum()
            assert say(client, "accepted").json()["state"] == "accepted"
        np.testing.assert_array_equal(kept(out, "a"), boxed(*RED))

    def test_a_session_of_an_earlier_version_that_was_never_filled(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            scan = opened(client)["id"]
            (place,) = (tmp_path / "s").glob(f"visitors/*/scans/{scan}")
            jar = dict(client.cookies)
        (place / RECORD).write_text('{"name": "a", "files": [], "phantom": "", "preset": "demo", "origin": "a"}')
        (place / "steps.jsonl").write_text("")
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            client.cookies.update(jar)
            refused(say(client, "accepted"), "open it again")
            assert opened(client)["targets"][0]["pixels"] == boxed(*RED).sum()

    def test_a_scan_that_the_run_failed_on(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        (folder / "b.png").write_bytes(b"no picture")
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            refused(client.post(f"{LIST}/1/open"), "content", 422)


class TestAnotherRun:
    @pytest.mark.parametrize("different", ["folder", "phrase"])
    def test_its_sessions_are_not_taken_for_this_ones(self, tmp_path: Path, different: str) -> None:
        """Both have a different case1.png, or ask for another phrase; browser and state are the same."""
        one = scans_in(tmp_path / "one", "case1")
        two = scans_in(tmp_path / "two", "case1", box=(32, 48, 48, 64)) if different == "folder" else one
        phrase = "red" if different == "folder" else "green"
        with reviewing(tmp_path / "s", one, tmp_path / "out1") as (_, client):
            before = opened(client)["id"]
            assert say(client, "accepted").status_code == 200
            jar = dict(client.cookies)
        with reviewing(tmp_path / "s", two, tmp_path / "out2", phrase) as (_, client):
            client.cookies.update(jar)
            refused(client.get(f"/api/v1/scans/{before}"), "another run", 422)
            refused(say(client, "accepted"), "open it again")
            expected = boxed(32, 48, 48, 64) if different == "folder" else boxed(0, 0, 0, 0)
            scan = opened(client)
            assert scan["id"] != before and scan["targets"][0]["name"] == phrase
            assert scan["targets"][0]["pixels"] == expected.sum()
            assert say(client, "accepted", scan=scan["id"]).json()["state"] == "accepted"
        np.testing.assert_array_equal(kept(tmp_path / "out2", "case1"), expected)

    def test_after_a_kill_at_the_same_port_and_with_a_changed_file(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (server, client):
            before = opened(client)["id"]
            jar = dict(client.cookies)
            server.state.kept = True  # as a kill leaves it
        (folder / "a.png").write_bytes(picture((32, 48, 48, 64)))
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            client.cookies.update(jar)
            assert opened(client)["id"] != before

    def test_a_restart_of_the_same_run_finds_its_edits(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            before = opened(client)["id"]
            paint(client, before)
            jar = dict(client.cookies)
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            client.cookies.update(jar)
            scan = opened(client)
            assert scan["id"] == before and scan["targets"][0]["edited"]
            assert say(client, "accepted").json()["state"] == "corrected"


class TestTwoPeople:
    def test_a_correction_is_not_overwritten_by_an_older_session(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, first):
            second = browser(first)
            mine = opened(first)["id"]
            say(first, "skipped").raise_for_status()
            paint(second, opened(second)["id"])
            assert say(second, "corrected").status_code == 200
            # Without opening it again the page of the first still shows the old mask.
            refused(say(first, "accepted"), "open it again")
            refused(say(first, "rejected", scan=mine), "open it again")
            again = opened(first)
            assert again["id"] != mine and again["targets"][0]["pixels"] == boxed(*RED).sum() + 1
            refused(say(first, "accepted", scan=mine), "opened anew")
            # What a person corrected is no acceptance of what the run wrote.
            assert say(first, "accepted").json()["state"] == "corrected"
        assert kept(out, "a")[1, 1]

    def test_a_second_tab_does_not_judge_what_it_has_not_seen(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            seen = opened(client)
            paint(client, seen["id"])
            refused(say(client, "accepted", scan=seen["id"], version=seen["version"]), "changed since you saw it")
            assert client.get(LIST).json()["items"][0]["mine"]
            again = opened(client)
            told = say(client, "accepted", scan=again["id"], version=again["version"]).json()
            assert told["state"] == "corrected"

    def test_who_comes_back_to_their_own_verdict_has_their_edits(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a", "b"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            scan = opened(client)["id"]
            paint(client, scan)
            say(client, "skipped").raise_for_status()
            opened(client, "1")
            again = opened(client)
            assert again["id"] == scan and again["targets"][0]["edited"] and again["can_undo"]


class TestWhatIsKept:
    @pytest.fixture
    def one(self, tmp_path: Path) -> Iterator[tuple[Any, dict[str, Any], Path]]:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            yield client, opened(client), out

    def test_a_target_is_found_by_its_phrase_whatever_it_is_called(self, one: Any) -> None:
        client, scan, out = one
        client.patch(f"/api/v1/scans/{scan['id']}/targets/1", json={"name": "lesion"}).raise_for_status()
        assert say(client, "accepted").json()["state"] == "accepted"
        np.testing.assert_array_equal(kept(out, "a"), boxed(*RED))

    def test_two_answers_to_one_phrase(self, one: Any) -> None:
        client, scan, out = one
        told = asked(client, scan["id"], "red", preset="other")
        assert told["target"]["name"] == "red (other)"
        refused(say(client, "accepted"), "'red', 'red (other)'")
        paint(client, scan["id"], told["target"]["id"])
        client.patch(f"/api/v1/scans/{scan['id']}/targets/{told['target']['id']}", json={"visible": False})
        refused(say(client, "corrected"), "'red (other)' was changed")
        client.patch(f"/api/v1/scans/{scan['id']}/targets/{told['target']['id']}", json={"visible": True})
        client.delete(f"/api/v1/scans/{scan['id']}/targets/1").raise_for_status()
        assert say(client, "corrected").json()["state"] == "corrected"
        assert kept(out, "a")[1, 1] and kept(out, "a").sum() == boxed(*RED).sum() + 1

    def test_what_would_keep_a_mask_that_nobody_saw(self, one: Any) -> None:
        client, scan, out = one
        place = f"/api/v1/scans/{scan['id']}"
        client.put(f"{place}/threshold", json={"value": 1.0}).raise_for_status()
        refused(say(client, "accepted"), "threshold hides the mask of 'red'")
        client.put(f"{place}/threshold", json={"value": 0.1}).raise_for_status()
        client.patch(f"{place}/targets/1", json={"visible": False}).raise_for_status()
        refused(say(client, "accepted"), "hidden")
        client.patch(f"{place}/targets/1", json={"visible": True}).raise_for_status()
        drawn = client.post(f"{place}/targets", json={"name": "other thing"}).json()["id"]
        paint(client, scan["id"], drawn)
        refused(say(client, "corrected"), "'other thing' was changed, but only the masks of 'red'")
        client.delete(f"{place}/targets/{drawn}").raise_for_status()
        client.delete(f"{place}/targets/1").raise_for_status()
        refused(say(client, "accepted"), "no mask of 'red'")
        assert not (out / "reviewed").exists()
        # Drawn anew under the phrase's name it is the phrase's.
        paint(client, scan["id"], client.post(f"{place}/targets", json={"name": "red"}).json()["id"])
        assert say(client, "corrected").json()["state"] == "corrected"
        assert kept(out, "a").sum() == 1

    def test_a_verdict_without_masks_asks_for_none(self, one: Any) -> None:
        client, scan, _ = one
        client.delete(f"/api/v1/scans/{scan['id']}/targets/1").raise_for_status()
        assert say(client, "rejected").json()["state"] == "rejected"


class TestFailures:
    def test_a_scan_that_is_changed_while_it_is_looked_at(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            opened(client)
            (folder / "a.png").write_bytes(picture((32, 48, 48, 64)))
            refused(say(client, "accepted"), "not the file that the run read", 422)
            refused(client.post(f"{LIST}/0/open"), "not the file that the run read", 422)
            assert client.post(f"{LIST}/next").json()["item"] is None
            assert client.get(LIST).json()["items"][0]["state"] == "failed"

    def test_a_damaged_mask_fails_each_time(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            (out / "a_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
            for _ in range(2):
                refused(client.post(f"{LIST}/0/open"), "a_mask.png", 422)
            refused(say(client, "accepted"), "not open")
            assert client.get("/api/v1/scans").json() == []

    def test_a_kill_before_it_is_filled_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"

        class Killed(BaseException):
            pass

        with reviewing(tmp_path / "s", folder, out) as (server, client):
            from lexiseg.serve.routes_worklist import _entry

            def killed(*_: object) -> None:
                raise Killed

            with monkeypatch.context() as patched:
                patched.setattr(server.worklist, "fill", killed)
                with pytest.raises(Killed):
                    _entry(server, "v" * 32, server.worklist.item(0))
            assert server.scans.all("v" * 32) == []
            assert list((tmp_path / "s").glob("visitors/*/scans/*/scan.json")) == []
            assert opened(client)["targets"][0]["pixels"] == boxed(*RED).sum()

    def test_a_mask_that_is_not_there_is_not_an_empty_one(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            (out / "a_mask.png").unlink()
            refused(client.post(f"{LIST}/0/open"), "the run found 'red', but there is no mask", 422)
            assert client.post(f"{LIST}/next").json()["item"] is None
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "failed" and "no mask of it" in item["error"]

    def test_a_full_disk_does_not_end_the_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, out = scans_in(tmp_path / "scans", "a", "b"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out) as (server, client):

            def full(*_: object, **__: object) -> None:
                raise UnwritableResult("the scan could not be saved (No space left on device); free some space")

            with monkeypatch.context() as patched:
                patched.setattr(server.scans, "place", full)
                refused(client.post(f"{LIST}/next"), "No space left", 507)
            assert [each["state"] for each in client.get(LIST).json()["items"]] == ["todo", "todo"]
            assert browser(client).post(f"{LIST}/next").json()["item"] is not None

    def test_a_verdict_that_is_kept_is_not_called_lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The disk is full once the verdict is in reviews.csv."""
        folder, out = scans_in(tmp_path / "scans", "a"), tmp_path / "out"

        def full(*_: object) -> None:
            raise UnwritableResult("results.csv: could not be written") from OSError(errno.ENOSPC, "No space left")

        with reviewing(tmp_path / "s", folder, out) as (_, client):
            scan = opened(client)["id"]
            paint(client, scan)
            with monkeypatch.context() as patched:
                patched.setattr("lexiseg.runs.review.write_results", full)
                told = say(client, "rejected").json()
                assert told["state"] == "rejected" and "not in results.csv yet: the disk is full" in told["note"]
            assert read_results(out / "results.csv")[0].review == ""
            # The session is of this verdict, and has its edits.
            assert opened(client)["id"] == scan
            assert say(client, "corrected").json() == {"state": "corrected", "seconds": 2.0}
        assert kept(out, "a")[1, 1] and read_results(out / "results.csv")[0].review == "corrected"

    def test_the_export_leaves_out_what_is_not_there_any_more(self, tmp_path: Path) -> None:
        folder, out = scans_in(tmp_path / "scans", "a", "b"), tmp_path / "my out"
        with reviewing(tmp_path / "s", folder, out) as (_, client):
            for number in "01":
                opened(client, number)
                say(client, "accepted", number).raise_for_status()
        (folder / "a.png").unlink()
        with reviewing(tmp_path / "s", None, out) as (_, client):
            told = client.post(f"{LIST}/export").json()
            assert told["left_out"] == ["a"]
            (manifest,) = told["manifests"]
            assert Path(manifest).read_text().splitlines()[1:] == ["b,images/b.png,masks/b_mask.png,red"]
            assert shlex.split(told["evaluate"][0])[2:6] == ["--pred", str(out), "--manifest", manifest]
        (folder / "b.png").unlink()
        with reviewing(tmp_path / "s", None, out) as (_, client):
            refused(client.post(f"{LIST}/export"), "no scan that was accepted or corrected is there", 400)

    def test_a_list_may_be_longer_than_what_a_visitor_may_send(self, tmp_path: Path) -> None:
        from lexiseg.serve.settings import Limits

        folder, out = scans_in(tmp_path / "scans", *"abcde"), tmp_path / "out"
        with reviewing(tmp_path / "s", folder, out, limits=Limits(scans=2)) as (server, client):
            for _ in range(5):
                item = client.post(f"{LIST}/next").json()["item"]
                say(client, "accepted", item["id"]).raise_for_status()
            assert client.post(f"{LIST}/next").json() == {"item": None, "scan": None}
            # What has a verdict is closed once others are open.
            (visitor,) = server.scans._visitors
            assert len(server.scans.all(visitor)) == 2
            assert client.post("/api/v1/scans", json={"phantom": "breast-ultrasound"}).status_code == 201
