from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from trees import SIZE, block, inside, mask_file, picture, run_import, save, volume

from lexiseg.datasets.importing import ImportRequest, import_dataset
from lexiseg.datasets.layouts.registry import LAYOUTS, layout_named
from lexiseg.datasets.manifest import read_manifest
from lexiseg.errors import BadDataset, LexisegError, UsageError
from lexiseg.io.masks import read_stored
from lexiseg.io.read import read_scan


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("a", "b"):
        picture(root / "images" / f"{name}.png")
        mask_file(root / "masks" / f"{name}.png")
    return root


def request(source: Path, out: Path, **options: object) -> ImportRequest:
    return ImportRequest(layout="plain", source=source, out=out, **options)


class TestWhereTheManifestLies:
    def test_in_a_folder_above(self, pairs: Path) -> None:
        rows, _ = run_import("plain", pairs, out=pairs.parent / "m.csv")
        assert rows["a"].image == pairs / "images" / "a.png"
        assert (pairs.parent / "m.csv").read_text().splitlines()[:2] == [
            "id,image,mask",
            "a,set/images/a.png,set/masks/a.png",
        ]

    def test_elsewhere_is_refused_with_a_way_out(self, pairs: Path, tmp_path: Path) -> None:
        with pytest.raises(BadDataset, match=r"write it to .*set/m\.csv, or copy the files beside it"):
            import_dataset(request(pairs, tmp_path / "else" / "m.csv"))
        assert not (tmp_path / "else").exists()

    def test_elsewhere_with_copies(self, pairs: Path, tmp_path: Path) -> None:
        rows, _ = run_import("plain", pairs, out=tmp_path / "else" / "m.csv", copy=True)
        assert rows["a"].image == tmp_path / "else/m_lexiseg/images/a.png"
        assert rows["a"].mask.read_bytes() == (pairs / "masks/a.png").read_bytes()

    def test_copies_of_volumes_in_two_files(self, tmp_path: Path) -> None:
        root, voxels = tmp_path / "set", np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True)
            nib.save(nib.Nifti1Pair(voxels, np.eye(4)), root / kind / "a.hdr")
            (root / kind / "b.mhd").write_text(
                "ObjectType = Image\nNDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\n"
                "ElementDataFile = voxels.raw\n"
            )
            voxels.tofile(root / kind / "voxels.raw")
        nib.save(nib.Nifti1Pair(voxels, np.eye(4)), root / "images" / "c.hdr")
        (root / "images" / "c.img").unlink()
        rows, imported = run_import("plain", root, out=tmp_path / "else" / "m.csv", copy=True)
        shutil.rmtree(root)
        assert all(read_scan(row.image).shape == (5, 4, 3) for row in rows.values())
        assert all(read_stored(row.mask).values.shape == (5, 4, 3) for row in rows.values())
        assert list(rows) == ["a", "b"]
        assert "c: left out: " in imported.problems[0] and "c.img is not beside it" in imported.problems[0]

    def test_through_a_link_to_the_data_set(self, pairs: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(pairs)
        rows, _ = run_import("plain", link)
        assert len(rows) == 2

    def test_a_file_that_is_no_manifest_is_not_overwritten(self, pairs: Path) -> None:
        (pairs / "notes.csv").write_text("patient,remark\n1,x\n")
        with pytest.raises(BadDataset, match="that is no manifest"):
            import_dataset(request(pairs, pairs / "notes.csv", overwrite=True))
        assert (pairs / "notes.csv").read_text() == "patient,remark\n1,x\n"

    def test_a_manifest_is_replaced_only_when_asked(self, pairs: Path) -> None:
        (pairs / "manifest.csv").write_text("id,image\na,images/a.png\n")
        with pytest.raises(BadDataset, match="there already; choose another name or add --overwrite"):
            run_import("plain", pairs)
        assert len(read_manifest(pairs / "manifest.csv")) == 1
        assert len(run_import("plain", pairs, overwrite=True)[0]) == 2

    def test_what_an_import_made_is_no_part_of_the_data_set(self, pairs: Path) -> None:
        first, _ = run_import("plain", pairs.parent, copy=True)
        again, _ = run_import("plain", pairs.parent, overwrite=True)
        assert first.keys() == again.keys()
        assert again["a"].image == pairs / "images" / "a.png"

    def test_a_folder_as_manifest(self, pairs: Path) -> None:
        with pytest.raises(BadDataset, match="it is a folder"):
            import_dataset(request(pairs, pairs))


def two_organs(root: Path) -> Path:
    """An nnU-Net set whose organs are one pixel each: liver 1 in row 0, spleen 2 in row 1."""
    for name in ("a", "b"):
        picture(root / "imagesTr" / f"{name}_0000.png")
        save(root / "labelsTr" / f"{name}.png", np.diag([1, 2, *(SIZE - 2) * [0]]))
    (root / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "spleen": 2}}')
    return root


def organ(manifest: Path) -> set[int]:
    """The rows of pixels that a manifest's masks show."""
    return {int(np.argmax(inside(row).any(1))) for row in read_manifest(manifest)}


class TestMadeMasks:
    def test_another_target_does_not_replace_those_of_a_manifest_that_was_moved(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = two_organs(tmp_path / "set")
        run_import("nnunet", root, target="liver", out=root / "m.csv")
        (root / "m.csv").rename(root / "liver.csv")
        run_import("nnunet", root, target="spleen", out=root / "m.csv")
        assert (organ(root / "liver.csv"), organ(root / "m.csv")) == ({0}, {1})
        assert "m_lexiseg stays as it is" in caplog.text and "m_2_lexiseg" in caplog.text

    def test_the_same_again_is_where_it_was(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")
        run_import("nnunet", root, target="liver", out=root / "m.csv")
        first = (root / "m.csv").read_bytes()
        run_import("nnunet", root, target="liver", out=root / "m.csv", overwrite=True)
        assert (root / "m.csv").read_bytes() == first
        assert [path.name for path in root.glob("*_lexiseg")] == ["m_lexiseg"]

    def test_a_mask_that_somebody_edited_stays(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")
        run_import("nnunet", root, target="liver")
        edited = mask_file(root / "manifest_lexiseg" / "masks" / "a_mask.png").read_bytes()
        run_import("nnunet", root, target="liver", overwrite=True)
        assert (root / "manifest_lexiseg" / "masks" / "a_mask.png").read_bytes() == edited
        assert organ(root / "manifest.csv") == {0}

    def test_manifests_whose_names_differ_in_the_ending_alone(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")
        for target, name in (("liver", "m.csv"), ("spleen", "m.txt")):
            run_import("nnunet", root, target=target, out=root / name)
        assert (organ(root / "m.csv"), organ(root / "m.txt")) == ({0}, {1})

    def test_an_import_that_ends_half_way_leaves_the_manifest_its_masks(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")
        run_import("nnunet", root, target="liver", out=root / "m.csv")

        def full(done: int, total: int) -> None:
            raise KeyboardInterrupt

        again = ImportRequest(layout="nnunet", source=root, target="spleen", out=root / "m.csv", overwrite=True)
        with pytest.raises(KeyboardInterrupt):
            import_dataset(again, progress=full)
        assert organ(root / "m.csv") == {0}
        assert [path.name for path in root.glob("*_lexiseg")] == ["m_lexiseg"]

    def test_a_manifest_that_came_meanwhile_is_not_replaced(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")

        def other(done: int, total: int) -> None:
            (root / "m.csv").write_text("id,image\nmine,a.png\n")

        with pytest.raises(BadDataset, match="it is there already"):
            import_dataset(
                ImportRequest(layout="nnunet", source=root, target="liver", out=root / "m.csv"), progress=other
            )
        assert read_manifest(root / "m.csv")[0].id == "mine"


def rotated(path: Path, orientation: int, size: tuple[int, int]) -> Path:
    """A ramp of this many rows and columns as it is stored, which EXIF turns."""
    told = Image.Exif()
    told[274] = orientation
    values = np.add.outer(np.arange(size[0]), np.arange(size[1])).astype(np.uint8)
    Image.fromarray(values).save(path, exif=told)
    return path


class TestMasksThatDoNotFit:
    def test_another_size_is_a_problem(self, pairs: Path) -> None:
        mask_file(pairs / "masks" / "a.png", np.zeros((12, 16), bool))
        _, imported = run_import("plain", pairs)
        assert imported.problems == ("a: its mask has 12 x 16, the image 16 x 16 rows x columns; expected the same",)

    def test_another_size_of_volumes(self, tmp_path: Path) -> None:
        for name, shape in (("a", (3, 4, 5)), ("b", (3, 4, 6)), ("c", (5, 4, 3))):
            volume(tmp_path / "images" / f"{name}.nii.gz")
            volume(tmp_path / "masks" / f"{name}.nii.gz", np.ones(shape, np.uint8))
        _, imported = run_import("plain", tmp_path)
        assert [problem.partition(":")[0] for problem in imported.problems] == ["b"]

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_masks_on_pixels_that_exif_did_not_turn(
        self, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "images").mkdir()
        for name, orientation in (("a", 6), ("b", 2), ("c", 1)):
            rotated(tmp_path / "images" / f"{name}.{suffix}", orientation, (12, 16))
            mask_file(tmp_path / "masks" / f"{name}.png", np.eye(12, 16, dtype=bool))
        mask_file(tmp_path / "masks" / "a.png", np.eye(16, 12, dtype=bool))
        _, imported = run_import("plain", tmp_path)
        assert not imported.problems
        assert "EXIF turns 2 of 3 images" in caplog.text
        assert "a mask was drawn on the unturned pixels" in caplog.text

    def test_a_mask_of_the_unturned_size(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        rotated(tmp_path / "images" / "a.jpg", 6, (12, 16))
        mask_file(tmp_path / "masks" / "a.png", np.eye(12, 16, dtype=bool))
        _, imported = run_import("plain", tmp_path)
        assert "EXIF orientation 6 turns the image: the mask seems to be drawn on the unturned" in imported.problems[0]


class TestHostileNames:
    @pytest.mark.parametrize(
        "name",
        [
            "new\nline",
            "tab\there",
            "C:drive",
            "back\\slash",
            "x..\\..\\up",
            "a,b\"c'd",
            " lead",
            "x" * 240,
            "[red]b",
        ],
    )
    def test_the_manifest_reads_back(self, pairs: Path, name: str) -> None:
        picture(pairs / "images" / f"{name}.png")
        mask_file(pairs / "masks" / f"{name}.png", block(1, 2, 3, 4))
        rows, imported = run_import("plain", pairs)
        (other,) = (row for key, row in rows.items() if key not in ("a", "b"))
        assert np.array_equal(inside(other), block(1, 2, 3, 4))
        assert not imported.missing

    def test_bytes_that_are_no_text(self, pairs: Path) -> None:
        (pairs / "images" / "b.png").rename(pairs / "images" / os.fsdecode(b"\xff.png"))
        rows, imported = run_import("plain", pairs)
        assert len(rows) == 2 and len(imported.missing) == 1

    def test_a_folder_that_no_manifest_can_name(self, tmp_path: Path) -> None:
        picture(tmp_path / "a\\b" / "images" / "a.png")
        mask_file(tmp_path / "a\\b" / "masks" / "a.png")
        rows, _ = run_import("plain", tmp_path)
        assert rows["a"].image == tmp_path / "manifest_lexiseg/images/a.png"

    def test_names_that_differ_in_case_or_extension_only(self, pairs: Path) -> None:
        picture(pairs / "images" / "A.png")
        picture(pairs / "images" / "a.jpg")
        rows, _ = run_import("plain", pairs)
        assert len({name.casefold() for name in rows}) == 4

    def test_hidden_files_pipes_and_folders_are_passed_over(self, pairs: Path) -> None:
        (pairs / "images" / "._a.png").write_bytes(b"resource fork")
        os.mkfifo(pairs / "images" / "pipe.png")
        (pairs / "images" / "folder.png").mkdir()
        assert list(run_import("plain", pairs)[0]) == ["a", "b"]


class TestLinks:
    @pytest.mark.parametrize("copy", [False, True])
    def test_out_of_the_data_set_are_left_out(self, pairs: Path, tmp_path: Path, copy: bool) -> None:
        secret = picture(tmp_path / "secret.png")
        (pairs / "images" / "c.png").symlink_to(secret)
        (pairs / "masks" / "a.png").unlink()
        (pairs / "masks" / "a.png").symlink_to(secret)
        (pairs / "images" / "loop.png").symlink_to(pairs / "images" / "loop.png")
        rows, imported = run_import("plain", pairs, copy=copy)
        assert list(rows) == ["a", "b"]
        assert imported.missing == ("a",)
        assert [problem.partition(":")[0] for problem in imported.problems] == ["a", "c", "loop"]

    def test_inside_the_data_set_are_files_like_others(self, pairs: Path) -> None:
        (pairs / "images" / "c.png").symlink_to(pairs / "images" / "a.png")
        assert "c" in run_import("plain", pairs)[0]


class TestSource:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_an_empty_folder_is_one_line_of_every_layout(self, tmp_path: Path, layout: str) -> None:
        with pytest.raises(BadDataset, match=r"looked for .*; found an empty folder") as error:
            run_import(layout, tmp_path)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_strange_folder_of_every_layout(self, tmp_path: Path, layout: str) -> None:
        for name in ("images", "masks", "benign", "original", "imagesTr", "Train", "CXR_png"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a\n.txt").write_text("x")
        with pytest.raises(LexisegError, match="looked for") as error:
            run_import(layout, tmp_path)
        assert "\n" not in str(error.value)

    def test_missing_and_no_folder(self, pairs: Path) -> None:
        with pytest.raises(BadDataset, match="no such folder"):
            import_dataset(request(pairs / "none", pairs / "m.csv"))
        with pytest.raises(BadDataset, match="it is no folder"):
            import_dataset(request(pairs / "images" / "a.png", pairs / "m.csv"))

    def test_an_unknown_layout(self) -> None:
        with pytest.raises(UsageError, match="did you mean kvasir"):
            layout_named("kvasir_seg")
        assert layout_named("Covid_QU-Ex").name == "covid-qu-ex"


class TestSplits:
    def test_by_patient(self, tmp_path: Path) -> None:
        for fetus in range(20):
            for name in (f"{fetus:03d}_HC", f"{fetus:03d}_2HC"):
                picture(tmp_path / "training_set" / f"{name}.png")
        rows, _ = run_import("hc18", tmp_path, split="70/15/15", seed=3)
        assert all(rows[f"{n:03d}_HC"].extra == rows[f"{n:03d}_2HC"].extra for n in range(20))
        parts = [row.extra["split"] for row in rows.values()]
        assert [parts.count(name) for name in ("train", "val", "test")] == [28, 6, 6]

    def test_a_set_without_patients_says_so(self, pairs: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, logger="lexiseg")
        run_import("plain", pairs, split="50/50")
        assert "names no patients" in caplog.text

    def test_the_target_is_the_text(self, tmp_path: Path) -> None:
        root = two_organs(tmp_path / "set")
        for name, options, text in (
            ("a.csv", {"target": "Liver"}, "liver"),
            ("b.csv", {"target": "liver", "text": "the liver"}, "the liver"),
            ("c.csv", {}, ""),
        ):
            rows, _ = run_import("nnunet", root, out=root / name, **options)
            assert {row.text for row in rows.values()} == {text}

    def test_a_target_of_a_layout_that_has_none_is_refused(self, pairs: Path) -> None:
        with pytest.raises(BadDataset, match="plain has masks of one kind; leave --target out"):
            run_import("plain", pairs, target="left lung")

    def test_text_is_the_same_on_every_row(self, pairs: Path) -> None:
        rows, _ = run_import("plain", pairs, text=" a tumour,\nhere ")
        assert {row.text for row in rows.values()} == {"a tumour,?here"}


def test_progress_is_told(pairs: Path) -> None:
    told: list[tuple[int, int]] = []
    import_dataset(request(pairs, pairs / "m.csv"), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert len(read_manifest(pairs / "m.csv")) == 2
