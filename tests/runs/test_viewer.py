"""A result as a document: what it holds, and that a browser shows it without asking anybody."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import chromium

from lexiseg.io.pictures import overlay
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.runs import viewer
from lexiseg.runs.viewer import View, view_result
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import Mask, Prompts, Saliency
from lexiseg.values.scans import Image, Planes, Volume

SHAPE = (5, 24, 32)


@pytest.fixture
def planes() -> Planes:
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return Volume(values, Geometry.of_spacing(SHAPE, (3.0, 1.0, 1.0))).planes("axial")


def result_of(mask: np.ndarray, phrase: str = "lesion", **fields: Any) -> Result:
    target = TargetResult(phrase, mask, True, 0.9, float("nan"), **fields)
    return Result("scan", (target,), Mask(mask.astype(np.uint8), (phrase,)))


@pytest.fixture
def result() -> Result:
    mask = np.zeros(SHAPE, bool)
    mask[3, 4:10, 6:20] = True
    prompts = [Prompts() for _ in range(5)]
    prompts[3] = Prompts(boxes=np.array([[6, 4, 20, 10]], np.float32))
    saliency = tuple(Saliency(np.full(SHAPE[1:], k / 4, np.float32), "lesion", 0.5) for k in range(5))
    return result_of(mask, prompts=tuple(prompts), saliency=saliency)


def data_of(view: View) -> dict[str, Any]:
    found = re.search(r'showFigure\(document\.getElementById\("figure"\), (.*)\);\n</script>', view.html)
    assert found is not None
    told: dict[str, Any] = json.loads(found[1])
    return told


def test_masks_boxes_and_values_are_those_of_the_result(planes: Planes, result: Result) -> None:
    told = data_of(view_result(result, planes))
    assert told["spacing"] == [1.0, 1.0]
    # Nobody placed this grid in a body.
    assert told["letters"] is None
    assert [each["index"] for each in told["planes"]] == list(range(5))
    pixels = np.frombuffer(base64.b64decode(told["planes"][2]["pixels"]), np.uint8).reshape(24, 32)
    assert np.array_equal(pixels, np.rint(planes[2].pixels * 255))
    (target,) = told["targets"]
    assert target["words"] == "present, presence 0.90"
    assert [place for place, told in target["slices"].items() if "mask" in told] == ["3"]
    drawn = target["slices"]["3"]
    assert drawn["boxes"] == [[6, 4, 20, 10]]
    assert drawn["mask"]["box"] == [6, 4, 20, 10]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(drawn["mask"]["bits"]), np.uint8), count=14 * 6)
    assert bits.all()
    assert told["start"] == 3


def test_targets_have_the_colours_that_overlays_give_them(planes: Planes, result: Result) -> None:
    (target,) = result.targets
    told = data_of(view_result(replace(result, targets=(target,) * 8), planes))
    labels = np.arange(1, 9, dtype=np.uint8)[None].repeat(8, axis=0)
    shown = overlay(Image(np.zeros((8, 8), np.float32), id="black"), labels, opacity=1.0)
    expected = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in shown[0]]
    assert [each["colour"] for each in told["targets"]] == expected


def test_a_volume_too_large_is_thinned_and_says_so(
    planes: Planes, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "_MOST_BYTES", 2 * 24 * 32)
    told = data_of(view_result(result, planes))
    assert [each["index"] for each in told["planes"]] == [0, 3]
    assert told["start"] == 1
    assert "One slice of 3" in told["notes"][0]


def test_a_phrase_cannot_end_the_script() -> None:
    image = Image(np.zeros((4, 5), np.float32), id="</title><b>")
    made = view_result(result_of(np.zeros((4, 5), bool), "</script><b>x"), image.planes())
    assert made.html.count("</script>") == 1
    assert "<b>" not in made.html
    assert data_of(made)["targets"][0]["name"] == "</script><b>x"


def test_a_notebook_gets_a_frame(planes: Planes, result: Result, tmp_path: Path) -> None:
    made = view_result(result, planes)
    assert made._repr_html_().startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!doctype html&gt;')
    assert made.save(tmp_path / "figure.html").read_text(encoding="utf-8") == made.html


class TestInBrowser:
    @pytest.fixture
    def browser(self) -> Iterator[Any]:
        with chromium() as opened:
            yield opened

    def test_it_shows_the_slice_with_most_of_the_mask(
        self, browser: Any, planes: Planes, result: Result, tmp_path: Path
    ) -> None:
        path = view_result(result, planes).save(tmp_path / "figure.html")
        page = browser.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri())
        assert page.inner_text(".words") == "axial 4 / 5"
        page.focus("canvas")
        page.keyboard.press("ArrowDown")
        assert page.inner_text(".words") == "axial 5 / 5"
        colours = "(() => { const c = document.querySelector('canvas'); return [...new Set(new Uint32Array("
        colours += "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer))].length; })()"
        assert page.evaluate(colours) > 10
        assert faults == []
        assert asked == [path.as_uri()]
