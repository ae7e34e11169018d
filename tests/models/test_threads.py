"""One loaded model shared by four threads answers each of them as it answers one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.loading import load_encoder, load_segmenter

THREADS = 4
ROUNDS = 12
Answers = list[torch.Tensor]


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Sums are added up in one order, so that equal means equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alike(ask: Callable[[int], Answers]) -> None:
    """What four threads are answered at once, question by question, is what one thread is."""
    expected = [ask(question) for question in range(ROUNDS)]
    start = Barrier(THREADS)

    def run(thread: int) -> list[tuple[int, Answers]]:
        torch.set_num_threads(1)
        start.wait()
        # each begins elsewhere, so that different calls meet
        order = [(thread * ROUNDS // THREADS + step) % ROUNDS for step in range(ROUNDS)]
        return [(question, ask(question)) for question in order]

    with ThreadPoolExecutor(THREADS) as pool:
        for answered in pool.map(run, range(THREADS)):
            for question, answers in answered:
                assert len(answers) == len(expected[question])
                assert all(torch.equal(a, b) for a, b in zip(answers, expected[question], strict=True)), question


def pixels_of(encoder: OpenClipEncoder, question: int, count: int = 1) -> torch.Tensor:
    size = encoder.input_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(question))


def everything(encoder: OpenClipEncoder, question: int) -> Answers:
    """One of the encoder's methods after the other; every hook that it knows is in play."""
    pixels = pixels_of(encoder, question)
    layer, other = encoder.default_layer(), encoder.layers()[question % len(encoder.layers())]
    match question % 6:
        case 0:
            text = encoder.encode_text(["breast tumor", f"left lung {question}"])
            maps, gradients = encoder.activations(pixels, layer, lambda z: (z @ text.T)[0])
            assert gradients is not None
            return [text, maps, gradients]
        case 1:
            return [encoder.encode_dense(pixels)]
        case 2:
            return [encoder.encode_image(pixels_of(encoder, question, 3))]
        case 3:
            with encoder.patched(other, lambda features: features * 0.5 + question):
                return [encoder.encode_image(pixels)]
        case 4:
            return [encoder.activations(pixels, other)[0], *encoder.encode_dense_and_image(pixels)]
        case _:
            change = torch.full((), 1.0 + question, requires_grad=True)
            with encoder.patched(layer, lambda features: features * change):
                score = encoder.encode_image(pixels)[0, 0]
            return [torch.autograd.grad(score, change)[0]]


@pytest.mark.parametrize("kind", ["timm ViT, class token", "CLIP ViT", "timm ConvNeXt", "CLIP ResNet"])
def test_an_encoder(encoders: dict[str, OpenClipEncoder], kind: str) -> None:
    encoder = encoders[kind]
    alike(lambda question: everything(encoder, question))
    assert not any(module._forward_hooks for module in encoder.model.modules())


def test_gradients_meet_other_threads_forwards(encoders: dict[str, OpenClipEncoder]) -> None:
    """Nothing but the call that failed before: a hook that every thread's forward ran into."""
    encoder = encoders["timm ViT, class token"]

    def ask(question: int) -> Answers:
        layer = encoder.default_layer()
        maps, gradients = encoder.activations(pixels_of(encoder, question), layer, lambda z: z[0, :2])
        assert gradients is not None
        return [maps, gradients]

    alike(ask)


def test_a_transformers_tokenizer(biomedclip: Path) -> None:
    """It changes its own settings while it reads, and refuses a second reader."""
    encoder = load_encoder(str(biomedclip), device="cpu", precision="float32")
    phrases = [f"breast tumor {index} " * (1 + index % 30) for index in range(30)]
    alike(lambda question: [encoder.encode_text(phrases[question:])])


def test_the_first_use_of_an_encoder(encoders: dict[str, OpenClipEncoder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that look for the layers of an unknown tower at the same time find the same."""
    from lexiseg.models.encoders import open_clip as family
    from lexiseg.models.encoders.open_clip_layers import SaliencyLayers

    monkeypatch.setattr(family, "find_layers", lambda _tower: SaliencyLayers((), ""))
    name = encoders["CLIP ViT"].name
    expected = load_encoder(name, device="cpu", precision="float32").default_layer()
    fresh, start = load_encoder(name, device="cpu", precision="float32"), Barrier(THREADS)

    def run(_thread: int) -> str:
        start.wait()
        return fresh.default_layer()

    with ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(run, range(THREADS))) == {expected}


def test_a_segmenter(sam: Path) -> None:
    segmenter = load_segmenter(str(sam), device="cpu", precision="float32")

    def ask(question: int) -> Answers:
        generator = np.random.default_rng(question)
        image = segmenter.encode(generator.random((40 + question, 60), dtype=np.float32))
        box = np.array([[2, 3, 20 + question, 30]], np.float32)
        decoded = segmenter.decode(image, boxes=box, multimask=bool(question % 2))
        return [decoded.logits, decoded.iou, segmenter.upsample(decoded.logits, image)]

    alike(ask)
