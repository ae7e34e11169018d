"""One encoder shared by four threads: every saliency method answers each as it answers one alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.saliency.base import SaliencyMethod
from lexiseg.saliency.settings import METHODS, method_class
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray

THREADS, SIZE = 4, 32
SETTINGS: dict[str, dict[str, Any]] = {
    "gscorecam": {"k": 2},
    "dense": {"shifts": 2},
    "m2ib": {"steps": 1, "samples": 1},
}
PHRASES = [PhraseSet("lungs", ("lungs",), ("background",))]


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Sums are added up in one order, so that equal means equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder() -> OpenClipEncoder:
    torch.manual_seed(0)
    vision = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": SIZE}
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    model.visual.preprocess_cfg = {"size": SIZE, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    return OpenClipEncoder(model, tokenizer, name="tiny", device=torch.device("cpu"), precision="float32")


@pytest.mark.parametrize("calls", [40, pytest.param(200, marks=pytest.mark.fullsize)])
def test_four_threads_are_answered_as_one(encoder: OpenClipEncoder, calls: int) -> None:
    """Each thread calls each method so many times."""
    methods = [method_class(name)(**SETTINGS.get(name, {})) for name in sorted(METHODS)]
    scans = [np.random.default_rng(seed).random((SIZE, SIZE), dtype=np.float32) for seed in range(3)]
    phrases = embed_phrases(encoder, PHRASES)

    def ask(method: SaliencyMethod, scan: FloatArray) -> tuple[bytes, float]:
        (found,) = method.explain(encoder, scan, phrases)
        return found.map.tobytes(), found.score

    expected = [[ask(method, scan) for scan in scans] for method in methods]
    start = Barrier(THREADS)

    def run(thread: int) -> list[str]:
        """The calls that were answered otherwise."""
        torch.set_num_threads(1)
        start.wait()
        wrong = []
        for call in range(calls * len(methods)):
            # threads are at different methods and scans at any time
            which, scan = (call + thread) % len(methods), (call // len(methods) + thread) % len(scans)
            if ask(methods[which], scans[scan]) != expected[which][scan]:
                wrong.append(f"thread {thread}, call {call}: {methods[which].name} of scan {scan}")
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert [line for lines in pool.map(run, range(THREADS)) for line in lines] == []
    assert not any(module._forward_hooks for module in encoder.model.modules())
