"""Verdicts keep what was seen: never an empty mask, another run's, another person's, or a hidden one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_saliency_encoder import NamedColours
from fake_segmenter import FakeSegmenter
from PIL import Image as Pillow
from serving import FAKE, RED, asked, boxed, browser, picture, serving

from lexiseg.errors import UnwritableResult
from lexiseg.io.sources import Source
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.review import Review
from lexiseg.runs.segment import RunOptions
from lexiseg.runs.table import read_results, write_results
from lexiseg.serve.scans import RECORD

LIST = "/api/v1/worklist"


def scans_in(folder: Path, *names: str, box: tuple[int, int, int, int] = RED) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.png").write_bytes(picture(box))
    return folder


@contextmanager
def reviewing(place: Path, folder: Path | None, out: Path, *phrases: str, **more: Any) -> Iterator[tuple[Any, Any]]:
    """A server whose worklist is segmented; without a folder that of a finished run."""
    given = {"phrases": phrases or (() if folder is None else ("red",)), **more}
    with serving(place, folder=folder, results=out, **given) as (server, client):
        server.worklist._thread.join(60)  # type: ignore[union-attr]
        yield server, client


def run(folder: Path, out: Path, phrase: str, *, resume: bool = False, preset: Any = None) -> None:
    """What `lexiseg segment` does."""
    pipeline = MedclipSam(FAKE.override(**preset or {}), NamedColours(), FakeSegmenter())
    items = gather_items([folder], phrases=(phrase,))
    run_batch(pipeline, items, out, phrases=(phrase,), options=RunOptions(resume=resume))


def opened(client: Any, number: str = "0") -> dict[str, Any]:
    reply = client.post(f"{LIST}/{number}/open")
    assert reply.status_code == 200, reply.text
    scan: dict[str, Any] = reply.json()["scan"]
    return scan


def say(client: Any, verdict: str, number: str = "0", **more: Any) -> Any:
    return client.post(f"{LIST}/{number}/verdict", json={"verdict": verdict, "seconds": 1, **more})


def refused(reply: Any, words: str, status: int = 409) -> None:
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]


def paint(client: Any, scan: str, target: int = 1, x: float = 1.5) -> None:
    edit = {"kind": "paint", "points": [[x, 1.5]], "radius": 0.5}
    client.post(f"/api/v1/scans/{scan}/targets/{target}/edits", json=edit).raise_for_status()


def kept(out: Path, name: str) -> np.ndarray:
    return np.asarray(Pillow.open(out / "reviewed" / "masks" / f"{name}_mask.png")) > 0


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


class TestAnEarlierReview:
    """It stands for the phrases, the file and the masks that it was given of, and for nothing else."""

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

    def test_other_masks_of_the_same_scan(self, reviewed: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = reviewed
        run(folder, out, "red", preset={"presence": {"threshold": 1.0}})
        with reviewing(tmp_path / "s2", None, out) as (_, client):
            (item,) = client.get(LIST).json()["items"]
            assert item["state"] == "todo" and "it was of other masks" in item["note"]

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
