"""Small towers, and pairs that they can learn in seconds: a bright quarter and a sentence that names it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from towers import make_tower_folder

PLACES = {"upper left": (0, 0), "upper right": (0, 1), "lower left": (1, 0), "lower right": (1, 1)}
SIZE = 64


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as open_clip begins one: random, and able to learn."""
    folder = make_tower_folder(tmp_path_factory.mktemp("tower"), "CLIP ViT")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def pairs_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs of four captions, each patient with two images."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    rows = ["image,text,group"]
    for index in range(24):
        place = list(PLACES)[index % 4]
        row, column = PLACES[place]
        pixels = rng.integers(0, 60, (SIZE, SIZE), np.uint8)
        pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] += 180
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append(f"{index}.png,A bright square in the {place} corner of scan {index // 8},p{index // 4}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.csv"
