"""Folders and zips of studies: series listed, chosen, named; patients kept apart; nothing extracted outside."""

from __future__ import annotations

import gc
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from study_files import AFFINES, VALUES, plain_dataset, read_volume, write_frames, write_series

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.find import describe_inputs, find_sources
from lexiseg.io.read import read_scan
from lexiseg.io.sources import Source, SourceOptions, read_source
from lexiseg.io.zips import ZipLimits, extract_zip


def write_study(folder: Path, *, patients: tuple[str, str] = ("p", "p")) -> tuple[str, str]:
    """Two series, 3 and 8, each in a folder of its own; their UIDs."""
    uids = generate_uid(), generate_uid()
    about = [("thorax soft", 3, "ct"), ("Head bone", 8, "head")]
    for uid, (description, number, name), patient in zip(uids, about, patients, strict=True):
        elements = {"SeriesInstanceUID": uid, "SeriesDescription": description, "SeriesNumber": number,
                    "PatientID": patient}  # fmt: skip
        write_series(folder / name, VALUES + number, AFFINES["axial"], elements=elements)
    return uids


def write_picture(path: Path, seed: int = 0) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9)).astype(np.uint8)).save(path)


class TestChoice:
    def test_several_series_are_refused_with_a_list_that_names_no_description(self, tmp_path: Path) -> None:
        write_study(tmp_path)
        with pytest.raises(UsageError) as caught:
            find_sources([tmp_path])
        assert str(caught.value) == (
            f"{tmp_path}: it holds 2 series; choose with --series N or :PLACE, or --all-series: "
            ":1 number 3 (CT volume 7 x 6 x 5), :2 number 8 (CT volume 7 x 6 x 5); `lexiseg info` describes them"
        )

    @pytest.mark.parametrize("choice", ["8", ":2", "head bone", "HEAD", "uid"])
    def test_one_is_chosen_by(self, tmp_path: Path, choice: str) -> None:
        uids = write_study(tmp_path)
        volume = read_volume(tmp_path, series=uids[1] if choice == "uid" else choice)
        np.testing.assert_array_equal(volume.values, VALUES + 8)

    @pytest.mark.parametrize("choice", ["7", ":3", ":0", "o", "chest", "1.2.3"])
    def test_a_choice_of_none_or_several_is_refused(self, tmp_path: Path, choice: str) -> None:
        write_study(tmp_path)
        with pytest.raises(UsageError, match=r"series"):
            read_scan(tmp_path, series=choice)

    def test_all(self, tmp_path: Path) -> None:
        write_study(tmp_path)
        sources = find_sources([tmp_path], SourceOptions(all_series=True))
        assert [source.place.name for source in sources] == ["ct", "head"]
        assert [len(source.files) for source in sources] == [7, 7]

    def test_series_of_one_folder_are_named_by_their_numbers(self, tmp_path: Path) -> None:
        write_study(tmp_path)
        for path in (tmp_path / "head").iterdir():
            path.rename(tmp_path / "ct" / f"h{path.name}")
        sources = find_sources([tmp_path / "ct"], SourceOptions(all_series=True))
        assert [source.place for source in sources] == [tmp_path / "ct" / "series3", tmp_path / "ct" / "series8"]

    def test_pictures_beside_a_series_are_scans_too(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["axial"])
        write_picture(tmp_path / "a.png")
        assert [source.place.name for source in find_sources([tmp_path])] == ["a.png", tmp_path.name]
        chosen = find_sources([tmp_path], SourceOptions(series=(":1",)))
        assert [source.place.name for source in chosen] == [tmp_path.name]

    def test_a_broken_file_fails_alone(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["axial"])
        (tmp_path / "empty.dcm").touch()
        whole = (tmp_path / "im0.dcm").read_bytes()
        (tmp_path / "cut.dcm").write_bytes(whole[:200])
        sources = find_sources([tmp_path])
        assert [source.place.name for source in sources] == ["cut.dcm", "empty.dcm", tmp_path.name]
        with pytest.raises(UnreadableScan, match="the file is empty"):
            read_source(sources[1])
        with pytest.raises(UnreadableScan, match=r"cut\.dcm"):
            read_source(sources[0])
        assert read_source(sources[2]).shape == VALUES.shape

    def test_one_bad_input_of_several_is_its_own_failure(self, tmp_path: Path) -> None:
        write_study(tmp_path / "study")
        write_picture(tmp_path / "a.png")
        bad, good = find_sources([tmp_path / "study", tmp_path / "a.png"], keep_missing=True)
        assert "it holds 2 series" in bad.error and bad.files == ()
        assert good.error == ""

    def test_a_directory_file_stands_for_its_folder(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["axial"])
        made = plain_dataset(VALUES[0], "1.2.840.10008.1.3.10")
        made.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
        np.testing.assert_array_equal(read_volume(tmp_path / "DICOMDIR").values, VALUES)

    @pytest.mark.parametrize(
        "options",
        [
            {"series": ("1",), "all_series": True},
            {"volume": 0},
            {"stack": True},
            {"spacing": (1.0, 1.0, 1.0)},
            {"stack": True, "spacing": (1.0, 0.0, 1.0)},
        ],
    )
    def test_options_that_cannot_be(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            SourceOptions(**options)


class TestPatients:
    def test_two_in_one_folder_are_refused_without_their_names(self, tmp_path: Path) -> None:
        write_study(tmp_path, patients=("Secret", "Hidden"))
        with pytest.raises(UsageError, match="its DICOM files are of 2 patients") as caught:
            find_sources([tmp_path], SourceOptions(all_series=True))
        assert "Secret" not in str(caught.value) and "Hidden" not in str(caught.value)
        found = find_sources([tmp_path], SourceOptions(all_series=True, all_patients=True))
        assert len(found) == 2

    def test_a_series_that_is_chosen_is_of_one(self, tmp_path: Path) -> None:
        write_study(tmp_path, patients=("Secret", "Hidden"))
        assert len(find_sources([tmp_path], SourceOptions(series=("3",)))) == 1

    def test_images_too(self, tmp_path: Path) -> None:
        for k, name in enumerate(["Secret", "Hidden"]):
            made = plain_dataset(VALUES[k])
            made.PatientName = name
            made.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
        with pytest.raises(UsageError, match="2 patients"):
            find_sources([tmp_path])

    def test_files_that_do_not_say_are_of_the_same(self, tmp_path: Path) -> None:
        write_study(tmp_path, patients=("p", ""))
        assert len(find_sources([tmp_path], SourceOptions(all_series=True))) == 2


def packed(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


class TestZips:
    def test_a_study_is_read_and_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        places = tmp_path / "tmp"
        places.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(places))
        write_series(tmp_path / "s" / "ct", VALUES, AFFINES["axial"])
        archive = packed(tmp_path / "s.zip", tmp_path / "s")
        (source,) = find_sources([archive])
        assert source.place == archive / "ct"
        assert source.files == (archive,)
        (folder,) = (place for place in places.iterdir() if place.is_dir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        scan = read_source(source)
        np.testing.assert_array_equal(scan.values, VALUES)
        del source
        gc.collect()
        # Writers refer to the files as long as there is the scan.
        assert len(list(scan.header.headers())) == 7
        del scan
        gc.collect()
        assert list(places.iterdir()) == []

    def test_pictures_in_a_zip(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        for k in range(2):
            write_picture(tmp_path / "s" / f"{k}.png", k)
        archive = packed(tmp_path / "s.zip", tmp_path / "s")
        assert [source.shown for source in find_sources([archive])] == [f"{archive}/0.png", f"{archive}/1.png"]

    @pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"])
    def test_paths_that_lead_out(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr("a.png", b"x")
            archive.writestr(zipfile.ZipInfo(name), b"x")
        with pytest.raises(UnreadableScan, match="a path that leads out"):
            read_scan(tmp_path / "s.zip")

    def test_links(self, tmp_path: Path) -> None:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr(link, "/etc/passwd")
        with pytest.raises(UnreadableScan, match="a link or a device"):
            read_scan(tmp_path / "s.zip")

    def test_a_bomb(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.dcm", "w") as f:
            for _ in range(40):
                f.write(bytes(2**20))
        assert (tmp_path / "s.zip").stat().st_size < 100_000
        with pytest.raises(UnreadableScan, match="grows more than 200 times"):
            read_scan(tmp_path / "s.zip")

    @pytest.mark.parametrize(
        ("limits", "reason"), [(ZipLimits(files=2), "it holds 3 files"), (ZipLimits(bytes=20), "more than 20 bytes")]
    )
    def test_limits(self, tmp_path: Path, limits: ZipLimits, reason: str) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for k in range(3):
                archive.writestr(f"{k}.png", bytes(10))
        with pytest.raises(UnreadableScan, match=reason):
            extract_zip(tmp_path / "s.zip", limits)

    def test_two_members_of_one_name(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive, pytest.warns(UserWarning):
            archive.writestr("a.png", b"x")
            archive.writestr("a.png", b"y")
        with pytest.raises(UnreadableScan, match="two of its files have one name"):
            read_scan(tmp_path / "s.zip")

    @pytest.mark.parametrize("cut", [10, 200])
    def test_a_truncated_zip(self, tmp_path: Path, cut: int) -> None:
        write_series(tmp_path / "s", VALUES, AFFINES["axial"])
        archive = packed(tmp_path / "s.zip", tmp_path / "s")
        archive.write_bytes(archive.read_bytes()[:-cut])
        with pytest.raises(UnreadableScan, match="a zip that cannot be read"):
            read_scan(archive)

    def test_damaged_bytes(self, tmp_path: Path) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("a.png", bytes(range(200)))
        damaged = bytearray(content.getvalue())
        damaged[80] ^= 255
        (tmp_path / "s.zip").write_bytes(damaged)
        with pytest.raises(UnreadableScan, match=r"a zip that cannot be read \(BadZipFile\)"):
            read_scan(tmp_path / "s.zip")

    def test_an_encrypted_zip(self, tmp_path: Path) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("a.png", b"x")
        marked = bytearray(content.getvalue())
        marked[6] |= 1
        marked[marked.find(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "s.zip").write_bytes(marked)
        with pytest.raises(UnreadableScan, match="it is encrypted"):
            read_scan(tmp_path / "s.zip")


class TestFolders:
    @pytest.mark.timeout(60)
    def test_ten_thousand_other_files_are_passed_over(self, tmp_path: Path) -> None:
        for k in range(100):
            (tmp_path / f"d{k}").mkdir()
            for n in range(100):
                (tmp_path / f"d{k}" / f"{n}.txt").write_bytes(b"text")
        write_series(tmp_path / "ct", VALUES, AFFINES["axial"])
        (source,) = find_sources([tmp_path])
        assert source.place == tmp_path / "ct"

    def test_a_file_of_a_series_that_may_not_be_read_is_not_lost(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        files[0].chmod(0)
        assert len(find_sources([tmp_path])) == 2

    def test_a_zip_in_a_folder_is_not_opened_and_counted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_picture(tmp_path / "a.png")
        packed(tmp_path / "old.zip", tmp_path)
        assert [source.place.name for source in find_sources([tmp_path])] == ["a.png"]
        assert [record.message for record in caplog.records] == ["passed over: 1 zip"]

    def test_a_source_of_a_file_holds_it_alone(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "a.png")
        source = Source.of_file(tmp_path / "a.png")
        assert (source.files, source.shown) == ((tmp_path / "a.png",), str(tmp_path / "a.png"))


class TestDamage:
    @pytest.mark.parametrize("seed", range(12))
    def test_whatever_is_in_the_files_each_fails_or_reads_with_one_line(self, tmp_path: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        write_series(tmp_path, VALUES[:4], AFFINES["oblique"], elements={"RescaleSlope": 1, "WindowCenter": 40})
        write_frames(tmp_path / "frames.dcm", VALUES[:4], AFFINES["oblique"])
        for path in rng.choice(sorted(tmp_path.iterdir()), 3, replace=False):
            content = bytearray(path.read_bytes())
            if rng.integers(3) == 0:
                content = content[: rng.integers(0, len(content))]
            for _ in range(min(5, len(content))):
                content[rng.integers(0, min(len(content), 1500))] = rng.integers(0, 256)
            path.write_bytes(content)
        described = describe_inputs([tmp_path])
        assert all("\n" not in each.error for each in described)
        try:
            sources = find_sources([tmp_path], SourceOptions(all_series=True, all_patients=True))
        except UsageError as error:
            assert "\n" not in str(error)
            return
        for source in sources:
            try:
                assert min(read_source(source).shape) > 0
            except UnreadableScan as error:
                assert "\n" not in str(error)


class TestDescriptions:
    def test_series_in_the_order_of_their_places(self, tmp_path: Path) -> None:
        uids = write_study(tmp_path)
        found = describe_inputs([tmp_path])
        assert [(each.place, each.series_uid, each.number, each.text) for each in found] == [
            (":1", uids[0], 3, "thorax soft"),
            (":2", uids[1], 8, "Head bone"),
        ]
        volume = read_volume(tmp_path, series=":1")
        assert found[0].shape == volume.shape == (7, 6, 5)
        np.testing.assert_array_equal(found[0].affine, volume.geometry.affine)
        assert found[0].spacing_mm == pytest.approx((2.5, 0.8, 0.7))
        assert (found[0].plane, found[0].files, found[0].status) == ("axial", 7, "ok")
        assert "thorax" not in str(found[0].as_dict())

    def test_what_is_refused_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").touch()
        (tmp_path / "b.png").write_bytes(b"no picture")
        made = plain_dataset(VALUES[0], "1.2.840.10008.5.1.4.1.1.88.33")
        made.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        found = describe_inputs([tmp_path])
        assert [(each.kind, each.status) for each in found] == [("not-an-image", "refused")] * 3
        assert [each.error.split(": ", 1)[1][:28] for each in found] == [
            "the file is empty (0 bytes)",
            "its name ends in .png but it",
            "it is no image but a structu",
        ]

    def test_a_bad_zip_is_described(self, tmp_path: Path) -> None:
        (tmp_path / "s.zip").write_bytes(b"PK\x03\x04")
        (found,) = describe_inputs([tmp_path / "s.zip"])
        assert found.status == "refused" and "a zip that cannot be read" in found.error

    def test_patients_are_counted_and_not_named(self, tmp_path: Path) -> None:
        write_study(tmp_path, patients=("Secret", "Hidden"))
        found = describe_inputs([tmp_path])
        assert found[0].notes[-1].startswith("patients: the folder holds files of 2")
        assert "Secret" not in str(found)

    def test_a_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such file or folder"):
            describe_inputs([tmp_path, tmp_path / "gone"])
