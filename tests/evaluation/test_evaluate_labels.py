"""Which value, or colour, of a mask is scored: chosen, and never another one without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import UsageError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.remarks import remarks
from lexiseg.evaluation.results import Evaluation
from lexiseg.evaluation.settings import EvaluationSettings, LabelChoice
from lexiseg.evaluation.statistics import Bootstrap

SHAPE = (48, 64)
RED, GREEN, MAROON, DARK_GREEN = (255, 0, 0), (0, 255, 0), (128, 0, 0), (0, 128, 0)
Draw = Callable[[np.ndarray, np.ndarray], Image.Image]


def run(small: Any, *folders: Path, **options: Any) -> Evaluation:
    return evaluate(small.manifest, folders, EvaluationSettings(bootstrap=Bootstrap(resamples=20), **options))


def cases(found: Evaluation) -> dict[str, Any]:
    return {case.id: case for case in found.systems[0].cases}


def folder_of(small: Any) -> Path:
    folder: Path = small.folder.parent / "p"
    folder.mkdir(exist_ok=True)
    return folder


def chosen(*written: str) -> tuple[LabelChoice, ...]:
    return tuple(map(LabelChoice.parse, written))


class TestLabels:
    """Values 1 and 2 side by side; 2 is the disc."""

    @pytest.fixture
    def maps(self, small: Any) -> Path:
        folder = folder_of(small)
        for name, truth in small.truths.items():
            labels = np.where(truth, 2, 0).astype(np.uint8)
            labels[:3, :3] = 1
            Image.fromarray(labels).save(folder / f"{name}.png")
        return folder

    def test_are_refused_without_a_choice(self, small: Any, maps: Path) -> None:
        failed = run(small, maps).systems[0].failed()
        assert [case.id for case in failed] == list("abcde")
        assert "a.png: it holds 3 values, 0, 1 and 2" in failed[0].reason
        assert "--label 2 or --label NAME=2" in failed[0].reason

    @pytest.mark.parametrize("written", ["2", "disc=2", "Disc =2", "1=1"])
    def test_are_chosen(self, small: Any, maps: Path, written: str) -> None:
        rows = [[*row[:3], "disc"] for row in small.rows()]
        small.write_manifest(rows, ("id", "image", "mask", "text"))
        choices = tuple(map(LabelChoice.parse, [written] if written != "1=1" else ["1", "disc=2"]))
        found = cases(run(small, maps, labels=choices))
        assert {case.values["dice"] for case in found.values()} == {1.0}
        assert "prediction: label 2 of 0, 1 and 2" in found["a"].notes

    def test_a_map_that_shows_another_label_alone_is_empty(self, small: Any, maps: Path) -> None:
        # f holds no disc: 1 alone must not pass for the target.
        found = cases(run(small, maps, labels=(LabelChoice.parse("2"),)))["f"]
        assert found.values["dice"] == 1
        assert "label 2 is not among its values 0 and 1" in found.notes[0]

    def test_a_name_that_no_row_has(self, small: Any, maps: Path) -> None:
        with pytest.raises(UsageError, match="no row's text or label is 'liver'"):
            run(small, maps, labels=(LabelChoice.parse("liver=2"),))

    @pytest.mark.parametrize("written", ["liver", "liver=", "2.5", "=", "#xyz"])
    def test_what_is_no_choice(self, written: str) -> None:
        with pytest.raises(UsageError, match="expected a number such as 2, or NAME=2"):
            LabelChoice.parse(written)


def rgb(target: tuple[int, ...], other: tuple[int, ...]) -> Draw:
    def draw(inside: np.ndarray, beside: np.ndarray) -> Image.Image:
        values = np.zeros((*SHAPE, len(target)), np.uint8)
        values[inside], values[beside] = target, other
        return Image.fromarray(values)

    return draw


def indexed(target: tuple[int, ...], other: tuple[int, ...]) -> Draw:
    def draw(inside: np.ndarray, beside: np.ndarray) -> Image.Image:
        values = np.where(inside, 1, np.where(beside, 2, 0)).astype(np.uint8)
        image = Image.frombytes("P", SHAPE[::-1], values.tobytes())
        image.putpalette([0, 0, 0, *target, *other])
        return image

    return draw


DRAWN: dict[str, tuple[Draw, str]] = {
    "rgb": (rgb(RED, GREEN), "#ff0000"),
    "dark rgb": (rgb(MAROON, DARK_GREEN), "#800000"),
    "shades of one colour": (rgb(MAROON, (64, 0, 0)), "#800000"),
    "nearly black": (rgb((1, 0, 0), (0, 1, 0)), "#010000"),
    "alpha": (rgb((*RED, 255), (*GREEN, 255)), "#ff0000"),
    "palette": (indexed(MAROON, DARK_GREEN), "#800000"),
}


class TestColours:
    """Three scans: the target and another one, the target alone, the other one alone."""

    def scans(self, small: Any, draw: Draw, role: str) -> Path:
        """Coloured files as truth or as prediction, and exact masks of 0 and 255 on the other side."""
        inside, beside, nothing = small.truths["a"], np.roll(small.truths["a"], 20, axis=1), np.zeros(SHAPE, bool)
        folder = folder_of(small)
        rows = []
        for name, both in (("a", (inside, beside)), ("b", (inside, nothing)), ("c", (nothing, beside))):
            plain = Image.fromarray(both[0].astype(np.uint8) * 255)
            for whose, path in (("truth", small.folder / f"{name}.png"), ("prediction", folder / f"{name}_mask.png")):
                (draw(*both) if whose == role else plain).save(path)
            rows.append([name, f"images/{name}.png", f"{name}.png", name])
        small.write_manifest(rows, ("id", "image", "mask", "group"))
        return folder

    @pytest.mark.parametrize("role", ["truth", "prediction"])
    @pytest.mark.parametrize("name", DRAWN)
    def test_the_wanted_one_alone_counts(self, small: Any, name: str, role: str) -> None:
        draw, colour = DRAWN[name]
        found = cases(run(small, self.scans(small, draw, role), labels=chosen(colour)))
        assert [case.reason for case in found.values()] == ["", "", ""]
        assert [case.values["dice"] for case in found.values()] == [1, 1, 1]
        assert f"{role}: label {colour} is not among its colours #000000 and #" in " ".join(found["c"].notes)

    @pytest.mark.parametrize("role", ["truth", "prediction"])
    def test_of_palettes_numbers_are_indices(self, small: Any, role: str) -> None:
        found = cases(run(small, self.scans(small, DRAWN["palette"][0], role), labels=chosen("1")))
        assert [case.values["dice"] for case in found.values()] == [1, 1, 1]

    def test_of_a_jpeg(self, small: Any) -> None:
        folder = self.scans(small, DRAWN["rgb"][0], "prediction")
        for name in "abc":
            path = folder / f"{name}_mask.png"
            if name != "a":
                Image.open(path).save(path.with_suffix(".jpg"), quality=90, subsampling=0)
            path.unlink()
        found = cases(run(small, folder, labels=chosen("#ff0000")))
        assert found["b"].values["dice"] > 0.9
        assert (found["c"].values["dice"], found["c"].predicted_size) == (1, 0)

    def test_one_colour_that_is_not_wanted_beside_label_maps(self, small: Any) -> None:
        """All true masks are green alone; the predictions number targets by colours."""
        folder = self.scans(small, DRAWN["rgb"][0], "prediction")
        for name in "abc":
            rgb(GREEN, GREEN)(small.truths["a"], small.truths["f"]).save(small.folder / f"{name}.png")
        found = run(small, folder, labels=chosen("#ff0000"))
        assert {case.truth_size for case in cases(found).values()} == {0}
        assert "true masks: 3 hold one value alone, which is not the label, so they are empty" in remarks(found)[0]

    def test_a_colour_that_no_file_holds(self, small: Any) -> None:
        found = run(small, self.scans(small, DRAWN["rgb"][0], "prediction"), labels=chosen("#0000ff"))
        assert remarks(found) == ["masks of p: none of 3 holds the label, so all are empty of it; check --label"]

    def test_white_masks_number_nothing(self, small: Any) -> None:
        folder = self.scans(small, DRAWN["rgb"][0], "prediction")
        for name in "ab":
            rgb((255, 255, 255), GREEN)(small.truths["a"], small.truths["f"]).save(small.folder / f"{name}.png")
        found = cases(run(small, folder, labels=chosen("#ff0000")))
        assert [found[name].values["dice"] for name in "ab"] == [1, 1]

    def test_grey_files_among_coloured_ones_are_refused(self, small: Any) -> None:
        folder = self.scans(small, DRAWN["rgb"][0], "prediction")
        Image.fromarray(small.truths["a"].astype(np.uint8) * 255).save(folder / "b_mask.png")
        (failed,) = run(small, folder, labels=chosen("#ff0000")).systems[0].failed()
        assert "it is grey and holds 0 and 255, and the label #ff0000 is a colour" in failed.reason

    def test_a_colour_where_all_masks_are_grey(self, small: Any) -> None:
        with pytest.raises(UsageError, match="the label is the colour #ff0000, and all masks are grey"):
            run(small, small.predict("grey"), labels=chosen("#ff0000"))

    def test_a_colour_is_no_number(self) -> None:
        with pytest.raises(UsageError, match="expected numbers alone, or colours alone"):
            LabelChoice.parse("1,#ff0000")
        with pytest.raises(UsageError, match="a colour such as #ff0000"):
            LabelChoice.parse("#f00")


class TestOneValueAlone:
    """All files of one side hold 0 and 1, and another label is wanted."""

    def scans(self, small: Any, role: str, *, maps: bool) -> Path:
        folder = folder_of(small)
        for name, truth in small.truths.items():
            labels = np.where(truth, 2, 0).astype(np.uint8)
            labels[:3, :3] = 1
            other = labels if maps else truth.astype(np.uint8) * 255
            for whose, path in (
                ("truth", small.folder / "masks" / f"{name}.png"),
                ("prediction", folder / f"{name}_mask.png"),
            ):
                Image.fromarray(truth.astype(np.uint8) if whose == role else other).save(path)
        return folder

    @pytest.mark.parametrize(("role", "size"), [("truth", "truth_size"), ("prediction", "predicted_size")])
    def test_is_another_label_where_the_other_side_numbers_targets(self, small: Any, role: str, size: str) -> None:
        found = run(small, self.scans(small, role, maps=True), labels=chosen("2"))
        assert {getattr(case, size) for case in cases(found).values()} == {0}
        assert f"{role}: it holds 0 and 1 alone, and not label 2: taken as another target" in cases(found)["a"].notes
        (line,) = remarks(found)
        assert "5 hold one value alone, which is not the label, so they are empty of it" in line

    @pytest.mark.parametrize(("role", "true", "other"), [("truth", "1", "2"), ("prediction", "2", "1")])
    def test_is_the_target_where_that_is_said(self, small: Any, role: str, true: str, other: str) -> None:
        folder = self.scans(small, role, maps=True)
        found = run(small, folder, labels=chosen(other), true_labels=chosen(true))
        assert {case.values["dice"] for case in cases(found).values()} == {1}

    @pytest.mark.parametrize("role", ["truth", "prediction"])
    def test_stays_a_mask_where_nobody_numbers_targets(self, small: Any, role: str) -> None:
        found = run(small, self.scans(small, role, maps=False), labels=chosen("2"))
        assert {case.values["dice"] for case in cases(found).values()} == {1}
        assert f"{role}: it holds 0 and 1 alone, and not label 2: taken as a mask" in cases(found)["a"].notes
        assert "5 hold one value alone, which is not the label; they are taken as masks" in remarks(found)[0]

    @pytest.mark.parametrize("maps", [False, True])
    def test_is_the_runs_own_phrase_where_its_table_says_so(self, small: Any, maps: bool) -> None:
        """`lexiseg segment` writes volumes as 0 and 1."""
        folder = self.scans(small, "prediction", maps=maps)
        rows = [f"{name},disc,{str(name != 'f').lower()},ok" for name in small.truths]
        (folder / "results.csv").write_text("\n".join(["id,text,present,status", *rows]) + "\n")
        found = run(small, folder, labels=chosen("2"))
        assert {case.values["dice"] for case in cases(found).values()} == {1}
        assert remarks(found) == []

    def test_of_plain_masks_nothing_is_said(self, small: Any) -> None:
        folder = small.predict("plain")
        assert remarks(run(small, folder, labels=chosen("2"))) == []
