"""A label map that a program sends back: one phrase a voxel, although the run's masks overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from serving import RED, boxed, picture, serving

from lexiseg.io.nifti import nifti_bytes
from lexiseg.serve.protocols.monai_store import with_hidden
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

BRAIN, TUMOR = boxed(10, 10, 50, 50), boxed(20, 20, 30, 30)


class TestHidden:
    def test_a_label_as_it_was_sent_gives_the_runs_masks(self) -> None:
        aside = boxed(45, 10, 60, 50)
        written = {"brain": BRAIN, "brain tumor": TUMOR, "skull": aside}
        sent = {"brain": BRAIN & ~TUMOR & ~aside, "brain tumor": TUMOR, "skull": aside}
        found, notes = with_hidden(sent, written)
        for phrase, mask in written.items():
            np.testing.assert_array_equal(found[phrase], mask)
        assert notes == [
            "'brain' keeps 100 of the run's pixels or voxels beneath 'brain tumor'",
            "'brain' keeps 200 of the run's pixels or voxels beneath 'skull'",
        ]

    def test_a_tumor_that_was_drawn_larger_lies_in_the_brain_still(self) -> None:
        larger = boxed(18, 18, 34, 34)
        for before in (TUMOR, None):
            found, notes = with_hidden(
                {"brain": BRAIN & ~larger, "brain tumor": larger}, {"brain": BRAIN, "brain tumor": before}
            )
            np.testing.assert_array_equal(found["brain"], BRAIN)
            np.testing.assert_array_equal(found["brain tumor"], larger)
            assert ("the run has no mask of 'brain tumor'" in notes[0]) == (before is None)

    def test_what_one_lung_gave_to_the_other_is_not_given_back(self) -> None:
        left, right = boxed(0, 0, 40, 60), boxed(40, 0, 60, 60)
        meant = {"left lung": boxed(0, 0, 30, 60), "right lung": boxed(30, 0, 60, 60)}
        found, notes = with_hidden(meant, {"left lung": left, "right lung": right})
        assert notes == []
        for phrase, mask in meant.items():
            np.testing.assert_array_equal(found[phrase], mask)

    def test_what_was_erased_is_gone(self) -> None:
        erased = BRAIN & ~TUMOR & ~boxed(10, 10, 50, 25)
        found, _ = with_hidden(
            {"brain": erased, "brain tumor": TUMOR & ~boxed(10, 10, 50, 25)}, {"brain": BRAIN, "brain tumor": TUMOR}
        )
        assert not found["brain"][10:25].any() and found["brain"][25:30, 20:30].all()


def test_scans_are_given_out_by_their_own_names(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in ("Müller", "Möller"):
        (scans / f"{name}.png").write_bytes(picture())
    with serving(tmp_path / "s", folder=scans, results=out, phrases=("red",)) as (_, client):
        names = [
            client.get(f"/datastore/image?image={name}").headers["content-disposition"] for name in ("Müller", "Möller")
        ]
    assert names == [
        "attachment; filename=\"M_ller.png\"; filename*=UTF-8''M%C3%BCller.png",
        "attachment; filename=\"M_ller.png\"; filename*=UTF-8''M%C3%B6ller.png",
    ]


class TestSubmitLabel:
    @pytest.mark.parametrize("changed", [False, True])
    def test_a_worklists_masks_that_overlap(self, tmp_path: Path, changed: bool) -> None:
        """The fake models answer both phrases with the same box; the first one is on top."""
        scans, out = tmp_path / "scans", tmp_path / "out"
        scans.mkdir()
        (scans / "a.png").write_bytes(picture())
        phrases = ("red", "red box")
        with serving(tmp_path / "s", folder=scans, results=out, phrases=phrases) as (server, client):
            server.worklist._thread.join(60)  # type: ignore[union-attr]
            asked = {"text": "; ".join(phrases), "result_extension": ".nii.gz"}
            label = client.post("/infer/lexiseg_text?image=a&output=image", data={"params": json.dumps(asked)}).content
            if changed:
                drawn = (boxed(*RED) | boxed(50, 50, 60, 60)).astype(np.uint8)[None]
                label = nifti_bytes(drawn, Volume(drawn, Geometry.of_spacing(drawn.shape, (1.0, 1.0, 1.0))))

            def submit(*infos: tuple[str, int]) -> Any:
                params = {"label_info": [{"name": name, "idx": idx} for name, idx in infos]}
                return client.put("/datastore/label?image=a&tag=final", data={"params": json.dumps(params)},
                                  files={"label": ("label.nii.gz", label)})  # fmt: skip

            twice = submit(("red", 1), ("red box", 1))
            assert twice.status_code == 422 and "an idx of its own" in twice.json()["error"]
            assert not (out / "reviewed").exists()
            told = submit(("red", 1), ("red box", 2))
            assert told.status_code == 200, told.text
            beneath = int(boxed(*RED).sum())
            assert told.json()["notes"] == f"'red box' keeps {beneath} of the run's pixels or voxels beneath 'red'"
            (item,) = client.get("/api/v1/worklist").json()["items"]
            assert item["state"] == ("corrected" if changed else "accepted")
        kept = np.asarray(Pillow.open(out / "reviewed" / "masks" / "a_mask_red-box.png")) > 0
        np.testing.assert_array_equal(kept, boxed(*RED))
