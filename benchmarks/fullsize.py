"""The full-size medclip-sam preset, and the procedure that MedCLIP-SAM released, on one scan in one run.

    python benchmarks/fullsize.py [--checkpoints DIR] [--forwards N] [--tolerance 0.01] [--threads N]

No hub is needed: BiomedCLIP (open_clip folder) and SAM ViT-B (original checkpoint) are made in the published layouts
with random weights, which cost what the real ones cost.  The scan is a 500 x 400 phantom.  The released procedure is
written anew from what its code does: float32, all 768 masked views made before 300 are kept, batches of 128 of which
each sees the text tower again, pydensecrf2, segment-anything.  Of its 300 masked forwards only N are done, in whole
batches, and their seconds multiplied.  Each side has a process of its own.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from scipy import ndimage
from torch import Tensor

import lexiseg
from common import made_with, peak_mib, table_head, table_row
from crf import compiled
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.models.loading import load_encoder
from lexiseg.regions.crf import CRFSettings

HELPER = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "checkpoints.py"
PHRASE = "breast tumor"
CHANNELS, BATCH = 300, 128
"""Of the released procedure: channels that are kept, and masked views in a forward."""
VIEW_MACS, SCAN_MACS = 17.6e9, 370e9
"""Multiplications of a ViT-B/16 at 224 px, and of SAM's ViT-B at 1024 px."""
app = typer.Typer(add_completion=False)


@dataclass
class Cost:
    """What one side took.

    Attributes:
        seconds: by stage.
        forwards: masked views that were seen.
        loaded: MiB once loaded.
        peak: MiB.
        box: of the region, x0 y0 x1 y1.
        saliency: the file with ours.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    forwards: int = 0
    loaded: float = 0.0
    peak: float = 0.0
    box: list[float] = field(default_factory=list)
    saliency: str = ""

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    @contextmanager
    def stage(self, name: str, times: float = 1.0) -> Iterator[None]:
        """Count a block's time, multiplied where only a part of the work was done."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + times * (time.perf_counter() - began)


def checkpoint(what: str, place: Path) -> Path:
    """A checkpoint, made by another process: its memory is not that of what is measured."""
    if not place.exists():
        subprocess.run([sys.executable, str(HELPER), what, str(place)], check=True)
    return place


def scan_of() -> Any:
    """The scan that both sides get."""
    return generate("breast-ultrasound", 7, size=(400, 500), target=True).scan


def ours(encoder: Path, segmenter: Path, tolerance: float) -> Cost:
    """The preset as it ships, but for the tolerance."""
    pipeline: Any = lexiseg.load(
        "medclip-sam",
        encoder=str(encoder),
        segmenter=str(segmenter),
        device="cpu",
        saliency={"tolerance": tolerance},
        presence={"threshold": 0.0},
    )
    seen: list[int] = []
    encode = pipeline.encoder.encode_image
    pipeline.encoder.encode_image = lambda pixels: (seen.append(len(pixels)), encode(pixels))[1]
    loaded = peak_mib()
    result = pipeline(scan_of(), PHRASE, keep_stages=True)
    seconds = {name: spent for name, spent in result.seconds.items() if name != "total"}
    boxes = result[PHRASE].prompts[0].boxes.tolist()
    place = encoder.parent / f"saliency_{tolerance}.npy"
    np.save(place, result[PHRASE].saliency[0].map)
    return Cost(seconds, sum(seen), loaded, peak_mib(), boxes[0] if boxes else [], str(place))


def released(encoder: Path, segmenter: Path, forwards: int) -> Cost:
    """The released procedure; the layer is the one before its own, whose gradient is zero, at the same cost."""
    from segment_anything import SamPredictor, sam_model_registry

    loaded = load_encoder(str(encoder), device="cpu", precision="float32")
    model: Any = loaded.model
    model.requires_grad_(True)
    predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint=str(segmenter)))
    cost = Cost(loaded=peak_mib())
    grey = np.rint(255 * np.asarray(scan_of().pixels)).astype(np.uint8)
    picture = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
    view = _centre(picture, loaded)
    tokens = loaded.tokenizer([PHRASE])
    with cost.stage("gradient"):
        maps, importance = _layer(model, view, tokens)
    with cost.stage("masks"), torch.no_grad():
        up = F.interpolate(maps[:, None], size=view.shape[-2:], mode="bilinear", align_corners=False)
        low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
        masked = (up - low) / (high - low) * view
        chosen = importance.argsort(descending=True)[:CHANNELS]
        kept = masked[chosen]
    scores = torch.zeros(len(maps))
    cost.forwards = min(forwards, len(kept))
    with cost.stage("forwards", times=len(kept) / cost.forwards), torch.no_grad():
        for start in range(0, cost.forwards, BATCH):
            rows = slice(start, min(start + BATCH, cost.forwards))
            scores[chosen[rows]] = _logits(model, kept[rows], tokens)[:, 0]
    with cost.stage("region"):
        shown = (torch.softmax(scores, 0)[:, None, None] * maps).sum(0).clamp_min(0)
        saliency = F.interpolate(shown[None, None], size=picture.shape[:2], mode="bilinear")[0, 0].numpy()
        saliency = (saliency - saliency.min()) / max(float(np.ptp(saliency)), 1e-12)
        region = compiled(saliency, picture / np.float32(255), CRFSettings()) > 0.5
        labels, count = ndimage.label(region)
        sizes = ndimage.sum_labels(region, labels, range(1, count + 1)) if count else [0]
        rows, columns = ndimage.find_objects(labels)[int(np.argmax(sizes))] if count else (slice(0, 400), slice(0, 500))
        cost.box = [columns.start, rows.start, columns.stop, rows.stop]
    with cost.stage("segmenter"):
        predictor.set_image(picture)
    with cost.stage("mask"):
        predictor.predict(box=np.array(cost.box), multimask_output=False)
    cost.peak = peak_mib()
    return cost


def _centre(picture: np.ndarray, encoder: Any) -> Tensor:
    """The middle square, 224 px, normalised: what the released code shows the encoder."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    square = Image.fromarray(picture[top : top + side, left : left + side])
    small = square.resize((encoder.input_size, encoder.input_size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(small, np.float32) / 255).permute(2, 0, 1)[None]
    std = torch.tensor(encoder.model.visual.preprocess_cfg["std"]).view(3, 1, 1)
    return (pixels - encoder.mean) / std


def _logits(model: Any, images: Tensor, tokens: Tensor) -> Tensor:
    """(B, 1): both towers are run, as the released loop does."""
    image, text = F.normalize(model.encode_image(images), dim=-1), F.normalize(model.encode_text(tokens), dim=-1)
    return model.logit_scale.exp() * image @ text.T


def _layer(model: Any, view: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (C, h, w) of the last block's first norm, and their mean gradients (C,)."""
    caught: list[Tensor] = []
    hook = model.visual.trunk.blocks[-1].norm1.register_forward_hook(lambda _, __, output: caught.append(output))
    try:
        logit = _logits(model, view, tokens)[0, 0]
    finally:
        hook.remove()
    caught[0].retain_grad()
    logit.backward()
    gradient = caught[0].grad
    assert gradient is not None
    side = int((caught[0].shape[1] - 1) ** 0.5)
    maps, slopes = (each[0, 1:].T.reshape(-1, side, side).detach() for each in (caught[0], gradient))
    return maps, slopes.mean((1, 2))


@app.command(hidden=True)
def side(name: str, encoder: Path, segmenter: Path, value: float, threads: int) -> None:
    """One side in this process; prints a line of JSON."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    cost = ours(encoder, segmenter, value) if name == "ours" else released(encoder, segmenter, int(value))
    print(json.dumps(asdict(cost)))


def both(
    folder: Path, *, forwards: int = BATCH, tolerance: float = 0.01, threads: int | None = None
) -> dict[str, Cost]:
    """What ours costs, exact and with a tolerance, and what the released procedure costs."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = checkpoint("biomedclip", folder / "biomedclip")
    segmenter = checkpoint("sam-pth", folder / "sam_vit_b.pth")
    plan = {"ours": ("ours", 0.0), "tolerance": ("ours", tolerance), "released": ("released", forwards)}
    found = {}
    for name, (who, value) in plan.items():
        command = [sys.executable, __file__, "side", who, encoder, segmenter, value, threads or torch.get_num_threads()]
        done = subprocess.run([str(each) for each in command], check=True, stdout=subprocess.PIPE, text=True)
        found[name] = Cost(**json.loads(done.stdout.splitlines()[-1]))
    return found


def agreement(found: dict[str, Cost]) -> float:
    """The correlation of the exact map and of that with a tolerance."""
    exact, near = (np.load(found[name].saliency).ravel() for name in ("ours", "tolerance"))
    return float(np.corrcoef(exact, near)[0, 1])


@app.command()
def compare(
    checkpoints: Annotated[Path | None, typer.Option(help="keep them here, for the next run")] = None,
    forwards: Annotated[int, typer.Option(help="masked forwards of the released procedure, of 300")] = BATCH,
    tolerance: Annotated[float, typer.Option(help="of the second run of ours")] = 0.01,
    threads: int | None = None,
) -> None:
    """Print seconds by stage, the ratio and peak memory."""
    with tempfile.TemporaryDirectory() as temporary:
        found = both(checkpoints or Path(temporary), forwards=forwards, tolerance=tolerance, threads=threads)
        maps = agreement(found)
    print(f"{made_with(f'{threads or torch.get_num_threads()} threads', f'tolerance {tolerance}')}\n")
    print(table_head(["", "stage", "seconds"]))
    for name, cost in found.items():
        for stage, seconds in [*cost.seconds.items(), ("total", cost.total)]:
            print(table_row([name, stage, f"{seconds:.2f}"]))
    for name, cost in found.items():
        ratio = found["released"].total / cost.total
        memory = f"peak {cost.peak:.0f} MiB ({cost.loaded:.0f} once loaded)"
        print(f"\n{name}: {cost.forwards} masked forwards, box {cost.box}, {memory}, {ratio:.1f} times as fast")
    print(f"\ncorrelation of our two maps: {maps:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("side", "compare", "--help"):
        sys.argv.insert(1, "compare")
    app()
