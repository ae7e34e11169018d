from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discs import disc

from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.training.students.network import slide
from lexiseg.training.students.student import load_student


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def pixels(seed: int = 50) -> np.ndarray:
    return disc(seed)[0].astype(np.float32) / 255


# A float32 network of some 30 layers, each with a norm, rounds logits of about 10 by 30 * 10 * 6e-8 = 2e-5; the
# same image in another layout is another order of sums.
ROUNDING = 1e-4


class TestPrediction:
    def test_probabilities_are_on_the_scans_grid_and_add_up(self, trained: Path) -> None:
        found = load_student(trained, device="cpu").predict(pixels())
        assert found.probabilities.shape == (2, 36, 48)
        np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
        assert found.uncertainty.shape == (36, 48)
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= 1

    def test_is_least_sure_at_the_edge(self, trained: Path) -> None:
        from scipy.ndimage import binary_dilation, binary_erosion

        found = load_student(trained, device="cpu").predict(pixels())
        mask = found.probabilities[1] > 0.5
        edge = binary_dilation(mask, iterations=2) & ~binary_erosion(mask, iterations=2)
        assert found.uncertainty[edge].mean() > 1.1 * found.uncertainty[~edge].mean()

    def test_with_flips_a_mirrored_scan_has_the_mirrored_answer(self, trained: Path) -> None:
        student = load_student(trained, device="cpu")
        one = student.predict(pixels(), flips=True).probabilities
        other = student.predict(np.ascontiguousarray(pixels()[:, ::-1]), flips=True).probabilities
        np.testing.assert_allclose(one, other[..., ::-1], atol=ROUNDING)
        plain = student.predict(pixels(), flips=False).probabilities
        assert np.abs(one - plain).max() > 10 * ROUNDING

    def test_an_ensemble_takes_turns(self, trained: Path) -> None:
        """Sides weigh alike, however many networks saw them."""
        student = load_student(trained, device="cpu")
        network = student._networks[0]
        student._networks, student.config = [network] * 3, replace(student.config, members=3)
        in_turns = student.predict(pixels()).probabilities
        np.testing.assert_allclose(in_turns, student.predict(pixels(), flips=True).probabilities, atol=1e-5)
        calls: list[Any] = []
        handle = network.register_forward_hook(lambda *_: calls.append(1))
        student.predict(pixels())
        handle.remove()
        assert len(calls) == 3

    def test_reads_colour(self, trained: Path) -> None:
        student = load_student(trained, device="cpu")
        colour = np.repeat(pixels()[..., None], 3, axis=2)
        np.testing.assert_allclose(
            student.predict(colour).probabilities, student.predict(pixels()).probabilities, atol=ROUNDING
        )


class TestSliding:
    def test_many_windows_of_a_pointwise_network_are_one(self) -> None:
        torch.manual_seed(0)
        images = torch.rand(1, 1, 80, 80)
        network = torch.nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            found = slide(network, images, size=32)
            assert torch.allclose(found, network(images), atol=1e-4)


class TestBroken:
    def test_another_folder_is_no_student(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownModel, match="lexiseg train"):
            load_student(tmp_path, device="cpu")
        (tmp_path / "config.json").write_text('{"model_type": "sam"}')
        with pytest.raises(UnknownModel, match="not a student"):
            load_student(tmp_path, device="cpu")

    def test_truncated_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(BrokenWeights, match="cannot be read"):
            load_student(folder, device="cpu")

    def test_changed_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(BrokenWeights, match="sha256"):
            load_student(folder, device="cpu")

    @pytest.mark.parametrize(("field", "value"), [("widths", [8, 16, 64]), ("members", 9), ("names", ["disc", "ring"])])
    def test_weights_that_do_not_fit_the_configuration(self, folder: Path, field: str, value: object) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, field: value}))
        with pytest.raises(BrokenWeights, match=r"fit|expects"):
            load_student(folder, device="cpu")

    def test_another_version(self, folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, "version": 99}))
        with pytest.raises(BrokenWeights, match="99"):
            load_student(folder, device="cpu")
