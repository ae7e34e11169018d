"""Requests of programs that draw on pictures, as their code makes them, against a server that listens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving import RED, SIZE, boxed, live, picture
from skimage.draw import polygon2mask

from lexiseg.io.nifti import nifti_bytes
from lexiseg.serve.protocols.label_studio import brush_rle
from lexiseg.serve.protocols.x_anylabeling import _shapes
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

TOKEN = "a-token-of-this-launch"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with live(tmp_path_factory.mktemp("state")) as (_, found):
        yield found


class TestXAnyLabeling:
    def test_text_and_marks(self, address: str) -> None:
        with httpx.Client(base_url=address, timeout=60, headers={"Token": ""}) as client:
            assert client.get("/health").json()["status"] == "UP"
            assert client.get("/v1/models").json()["data"]["lexiseg"]["batch_processing_mode"] == "text_prompt"
            assert client.get("/v1/models/lexiseg/info").json()["success"]
            image = "data:image/png;base64," + base64.b64encode(picture()).decode()
            told = client.post("/v1/predict", json={"model": "lexiseg", "image": image,
                                                    "params": {"text_prompt": "red,green", "conf_threshold": 0.5}})  # fmt: skip  # noqa: E501
            (shape,) = told.json()["data"]["shapes"]
            assert shape["label"] == "red" and shape["shape_type"] == "polygon"
            x, y = np.array(shape["points"]).T
            assert abs(x.min() - RED[0]) <= 1 and abs(x.max() - RED[2]) <= 1 and abs(y.max() - RED[3]) <= 1
            told = client.post("/v1/predict", json={"image": image, "params": {"marks": [
                {"type": "rectangle", "data": [4, 4, 10, 10], "label": 1}]}})  # fmt: skip
            assert len(told.json()["data"]["shapes"]) == 1
            assert client.post("/v1/predict", json={"image": "?"}).status_code == 422

    def test_holes_and_small_pieces_stay(self) -> None:
        """Polygons are filled each by itself, as X-AnyLabeling does."""
        y, x = np.mgrid[:100, :100]
        distance = np.hypot(x - 50, y - 50)
        mask = (distance < 40) & (distance > 20)
        mask[2, 2] = mask[95:98, 90:97] = True
        shapes = _shapes(mask, "x", 1.0)
        assert len(shapes) == 3
        filled = np.zeros(mask.shape, np.bool_)
        for shape in shapes:
            points = np.array(shape["points"])
            np.testing.assert_array_equal(points[0], points[-1])
            # The centre of a pixel lies at +0.5.
            filled |= polygon2mask(mask.shape, points[:, ::-1] - 0.5)
        assert (filled ^ mask).sum() <= 4 and filled[2, 2] and not filled[50, 50]

    @pytest.mark.parametrize(
        "marks",
        [["x"], "x", {"a": 1}, [{"type": "point", "data": ["a", 1]}], [{"type": "point", "data": [1]}],
         [{"type": "rectangle", "data": None}], [{"type": "circle", "data": [1, 2]}]],
    )  # fmt: skip
    def test_marks_that_are_none(self, address: str, marks: Any) -> None:
        image = base64.b64encode(picture()).decode()
        reply = httpx.post(f"{address}/v1/predict", json={"image": image, "params": {"marks": marks}})
        assert reply.status_code == 422
        assert "expected a point of two numbers or a rectangle of four" in reply.json()["error"]

    def test_a_rectangle_that_is_outside_is_not_added(self, address: str) -> None:
        marks = [{"type": "rectangle", "data": [4, 4, 10, 10], "label": 0}]
        request = {"image": base64.b64encode(picture()).decode(), "params": {"marks": marks}}
        reply = httpx.post(f"{address}/v1/predict", json=request)
        assert reply.status_code == 422 and "mark what is outside with points" in reply.json()["error"]

    @pytest.mark.parametrize("params", [{"text_prompt": "red"}, {"marks": [{"type": "point", "data": [2, 2]}]}])
    def test_a_volume_is_no_picture(self, address: str, params: dict[str, Any]) -> None:
        request = {"image": base64.b64encode(volume_bytes()).decode(), "params": params}
        reply = httpx.post(f"{address}/v1/predict", json=request)
        assert reply.status_code == 422
        assert reply.json()["error"] == "a volume of 6 slices was sent; expected one slice as a picture"

    def test_its_token(self, tmp_path: Path) -> None:
        with live(tmp_path / "s", token=TOKEN) as (_, at):
            assert httpx.get(f"{at}/v1/models", headers={"Token": TOKEN}).status_code == 200
            assert httpx.get(f"{at}/v1/models", headers={"Token": "no"}).status_code == 401


def volume_bytes() -> bytes:
    """A NIfTI of six slices of eight rows and eight columns."""
    values = np.random.default_rng(0).integers(0, 900, (6, 8, 8)).astype(np.int16)
    return nifti_bytes(values, Volume(values, Geometry.of_spacing(values.shape, (1.0, 1.0, 1.0))))


CONFIG = """<View><Image name="image" value="$picture"/>
<BrushLabels name="brush" toName="image"><Label value="red"/><Label value="green"/></BrushLabels></View>"""


def decoded(rle: list[int]) -> np.ndarray:
    """Label Studio's run lengths read as its own converter reads them, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        value = int(bits[at : at + count], 2)
        at += count
        return value

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        equal = take(1)
        length = take(sizes[take(2)]) + 1
        out += [take(word)] * length if equal else [take(word) for _ in range(length)]
    return np.array(out, np.uint8)


class TestLabelStudio:
    def test_a_task(self, address: str) -> None:
        data = "data:image/png;base64," + base64.b64encode(picture()).decode()
        with httpx.Client(base_url=address, timeout=60) as client:
            assert client.post("/setup", json={"project": "1", "schema": CONFIG}).json()["model_version"]
            assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 201
            request = {"tasks": [{"id": 1, "data": {"picture": data}}], "label_config": CONFIG, "project": "1.17",
                       "params": {"context": None}}  # fmt: skip
            (found,) = client.post("/predict", json=request).json()["results"]
            (one,) = found["result"]
            assert (one["from_name"], one["to_name"], one["type"]) == ("brush", "image", "brushlabels")
            assert one["value"]["brushlabels"] == ["red"]
            grey = decoded(one["value"]["rle"]).reshape(SIZE, SIZE, 4)[..., 3]
            np.testing.assert_array_equal(grey > 0, boxed(*RED))

    @pytest.mark.parametrize(
        ("config", "picture_at", "words"),
        [
            (CONFIG, "http://other.example/scan.png", "opens none"),
            (CONFIG, "/data/local-files/?d=../../etc/passwd", "opens none"),
            ("<View/>", "data:,x", "no BrushLabels"),
            ("<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", "data:,x", "declares entities"),
            ("<View", "data:,x", "no XML"),
        ],
    )
    def test_what_cannot_be(self, address: str, config: str, picture_at: str, words: str) -> None:
        request = {"tasks": [{"data": {"picture": picture_at}}], "label_config": config}
        reply = httpx.post(f"{address}/predict", json=request)
        assert reply.status_code == 422 and words in reply.json()["error"]

    def test_a_volume_is_no_picture(self, address: str) -> None:
        data = "data:;base64," + base64.b64encode(volume_bytes()).decode()
        reply = httpx.post(f"{address}/predict", json={"tasks": [{"data": {"picture": data}}], "label_config": CONFIG})
        assert reply.status_code == 422
        assert reply.json()["error"] == "a volume of 6 slices was sent; expected one slice as a picture"

    def test_a_label_that_is_too_long(self, address: str) -> None:
        data = "data:image/png;base64," + base64.b64encode(picture()).decode()
        config = CONFIG.replace("green", "g" * 201)
        reply = httpx.post(f"{address}/predict", json={"tasks": [{"data": {"picture": data}}], "label_config": config})
        assert reply.status_code == 422
        assert "a phrase has 201 characters; expected at most 200" in reply.json()["error"]

    @pytest.mark.parametrize("task", [{"data": None}, {}, {"data": "x"}])
    def test_a_task_without_data(self, address: str, task: dict[str, Any]) -> None:
        reply = httpx.post(f"{address}/predict", json={"tasks": [task], "label_config": CONFIG})
        assert reply.status_code == 422 and "expected an object with its picture" in reply.json()["error"]

    def test_long_runs(self) -> None:
        mask = np.zeros((300, 301), np.bool_)
        mask[5:250, 7:11] = mask[299, 300] = True
        np.testing.assert_array_equal(decoded(brush_rle(mask)).reshape(300, 301, 4)[..., 0] > 0, mask)
