"""While one scan is worked on, the next is read and the last is written; what comes of it is the same."""

from __future__ import annotations

import dataclasses
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from PIL import Image

from lexiseg.errors import UnreadableScan, UnwritableResult
from lexiseg.io.read import read_scan
from lexiseg.pipelines.results import Result
from lexiseg.runs import ahead, batch
from lexiseg.runs.ahead import Behind, ReadAhead
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.table import read_results


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        pixels = np.random.default_rng(seed).integers(0, 255, (12, 9), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def items_of(folder: Path) -> list[RunItem]:
    return gather_items([folder], phrases=["tumor"])


class TestReading:
    def test_the_next_scan_is_read_while_one_is_worked_on(self, scans: Path) -> None:
        items = items_of(scans)
        read, begun = [], {item.id: threading.Event() for item in items}

        def reader(item: RunItem) -> Any:
            read.append(item.id)
            begun[item.id].set()
            return read_scan(item.path, id=item.id)

        with ReadAhead(items, reader) as reading:
            for item, after in pairwise(items):
                assert reading.take(item)[0].id == item.id
                assert begun[after.id].wait(60)
            assert reading.take(items[-1])[0].id == "d"
        assert read == list("abcd")

    def test_what_reading_raised_is_raised_where_the_scan_is_taken(self, scans: Path) -> None:
        items = items_of(scans)
        (scans / "b.png").write_bytes(b"nothing")
        with ReadAhead(items, lambda item: read_scan(item.path, id=item.id)) as reading:
            reading.take(items[0])
            with pytest.raises(UnreadableScan, match=r"b\.png"):
                reading.take(items[1])
            assert reading.take(items[2])[0].id == "c"

    def test_large_files_and_folders_wait_for_their_turn(self, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        items = items_of(scans)
        monkeypatch.setattr(ahead, "LARGEST", (scans / "b.png").stat().st_size - 1)
        owners = []

        def reader(item: RunItem) -> Any:
            owners.append(threading.current_thread() is threading.main_thread())
            return read_scan(item.path, id=item.id)

        with ReadAhead(items[:2], reader) as reading:
            reading.take(items[0])
            reading.take(items[1])
        assert owners == [True, True]

    def test_what_cannot_be_opened_is_not_tried_ahead(self, scans: Path) -> None:
        first, second = items_of(scans)[:2]
        assert ahead._is_small(first)
        assert not ahead._is_small(dataclasses.replace(first, error="no such file"))
        (scans / "b.png").unlink()
        assert not ahead._is_small(second)


class TestWriting:
    def test_what_was_begun_is_ended_whatever_happens(self) -> None:
        ended = []
        with pytest.raises(KeyboardInterrupt), Behind[None]() as behind:
            behind.begin(lambda: (time.sleep(0.05), ended.append(1))[-1])
            raise KeyboardInterrupt
        assert ended == [1]

    def test_an_error_is_told_before_the_next_is_begun(self) -> None:
        def fail() -> None:
            raise UnwritableResult("full")

        done: list[int] = []
        with Behind[None]() as behind:
            behind.begin(fail)
            with pytest.raises(UnwritableResult):
                behind.begin(lambda: done.append(1))
        assert not done

    def test_a_scan_is_worked_on_while_the_last_one_is_written(
        self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        second_is_worked_on = threading.Event()
        write = batch.write_outputs

        def slow(result: Result, *args: Any, **options: Any) -> Any:
            # Written before the second were worked on, this would wait for ever.
            assert result.id != "a" or second_is_worked_on.wait(60)
            return write(result, *args, **options)

        class Telling(FakePipeline):
            def __call__(self, scan: Any, *args: Any, **options: Any) -> Result:
                if scan.id == "b":
                    second_is_worked_on.set()
                return super().__call__(scan, *args, **options)

        monkeypatch.setattr(batch, "write_outputs", slow)
        run_batch(Telling(), items_of(scans), tmp_path / "out", phrases=["tumor"])
        assert [row.id for row in read_results(tmp_path / "out" / "results.csv")] == list("abcd")

    def test_a_full_disk_ends_the_run_with_what_was_written_until_then(
        self, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = batch.write_outputs

        def full(result: Result, *args: Any, **options: Any) -> Any:
            if result.id == "b":
                raise UnwritableResult("the disk is full")
            return write(result, *args, **options)

        monkeypatch.setattr(batch, "write_outputs", full)
        pipeline = FakePipeline()
        with pytest.raises(UnwritableResult, match="--resume continues"):
            run_batch(pipeline, items_of(scans), tmp_path / "out", phrases=["tumor"])
        assert [row.id for row in read_results(tmp_path / "out" / "results.csv")] == ["a"]
        # The scan after it was under way; none after that was begun.
        assert pipeline.seen == list("abc")

    def test_a_stop_in_the_middle_keeps_the_scan_before(self, scans: Path, tmp_path: Path) -> None:
        class Stopped(FakePipeline):
            def __call__(self, scan: Any, *args: Any, **options: Any) -> Result:
                if scan.id == "c":
                    raise KeyboardInterrupt
                return super().__call__(scan, *args, **options)

        with pytest.raises(KeyboardInterrupt):
            run_batch(Stopped(), items_of(scans), tmp_path / "out", phrases=["tumor"])
        assert [row.id for row in read_results(tmp_path / "out" / "results.csv")] == ["a", "b"]
        assert (tmp_path / "out" / "b_mask.png").exists()


def test_files_are_those_of_one_scan_after_the_other(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(out: Path) -> dict[str, bytes]:
        run_batch(FakePipeline(), items_of(scans), out, phrases=["tumor"])
        return {path.name: path.read_bytes() for path in out.glob("*.png")}

    at_once = files(tmp_path / "at_once")
    monkeypatch.setattr(ahead, "LARGEST", -1)
    monkeypatch.setattr(Behind, "begin", lambda self, work: work())
    assert files(tmp_path / "in_turn") == at_once
    assert len(at_once) == 4
