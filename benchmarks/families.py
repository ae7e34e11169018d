"""Every family of models in its published layout and size: loaded, compared with its reference, timed.

    python benchmarks/families.py [--threads 2] [--only NAME,NAME] [--mobile-sam mobile_sam.pt]

Weights are random, which cost what the real ones cost; MobileSAM's and those that ship are real. Each family has a
process of its own, so that its peak memory is its own. Seconds are of the processor, since other work may share the
machine. "differs" is the largest difference from the reference's own
forward: of the mask logits for a box, or of the image's unit embedding. The reference is transformers' model of the
same numbers; of `mobile_sam.pt` the package mobile_sam, of `sam2.1_hiera_tiny.pt` the package sam2, where installed.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from common import made_with, progress, table_head, table_row
from lexiseg.models.loading import load_encoder, load_segmenter

HELPERS = Path(__file__).resolve().parents[1] / "tests" / "helpers"
app = typer.Typer(add_completion=False)
BOX = np.array([[60, 80, 300, 240]], np.float32)
SCAN = (320, 400)
Found = dict[str, Any]


def folder_of(model: Any, place: Path) -> Path:
    """The model as transformers saves it, with random weights."""
    from checkpoints import randomise

    randomise(model, 0)
    model.eval().save_pretrained(place)
    return place


def transformers_model(name: str, place: Path) -> tuple[Any, Path]:
    """transformers' model of a family at its default, published size, and its folder."""
    import transformers

    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")())
    return model, folder_of(model, place)


def segmenter(ref: Path | str, reference: Callable[[Any, np.ndarray], torch.Tensor] | None) -> Found:
    """Load, encode, decode a box and ten clicks; compare with the reference's logits for the box."""
    began = time.process_time()
    loaded: Any = load_segmenter(str(ref), device="cpu", precision="float32")
    found: Found = {"load": time.process_time() - began}
    pixels = np.random.default_rng(0).integers(0, 256, (*SCAN, 3)).astype(np.float32) / 255
    began = time.process_time()
    image = loaded.encode(pixels)
    found["encode"] = time.process_time() - began
    clicks = np.random.default_rng(1).random((10, 1, 2)).astype(np.float32) * (SCAN[1], SCAN[0])
    began = time.process_time()
    loaded.decode(image, points=clicks, labels=np.ones((10, 1), np.int64), multimask=True)
    found["decode"] = (time.process_time() - began) / 10
    ours = loaded.decode(image, boxes=BOX, multimask=True).logits[0]
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if reference is not None:
        theirs = reference(loaded, pixels)
        found["differs"] = float((ours.clamp(-32, 32) - theirs.clamp(-32, 32)).abs().max())
    return found


def encoder(ref: Path, embed: Callable[[torch.Tensor], torch.Tensor]) -> Found:
    """Load, embed an image; compare with the reference's embedding."""
    began = time.process_time()
    loaded: Any = load_encoder(str(ref), device="cpu", precision="float32")
    found: Found = {"load": time.process_time() - began}
    side = loaded.input_size
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    ours = loaded.encode_image(pixels)
    found["encode"] = time.process_time() - began
    began = time.process_time()
    loaded.encode_dense_and_image(pixels, "clearclip")
    found["dense"] = time.process_time() - began
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    normalised = (pixels - loaded._mean) / loaded._std
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(embed(normalised), dim=-1)
    found["differs"] = float((ours - theirs).abs().max())
    return found


def by_transformers(model: Any) -> Callable[[Any, np.ndarray], torch.Tensor]:
    """Logits for the box of a model that stretches the scan to a square."""

    def answer(loaded: Any, pixels: np.ndarray) -> torch.Tensor:
        size = loaded._size
        box = torch.from_numpy(BOX[None]) * torch.tensor([size / SCAN[1], size / SCAN[0]]).repeat(2)
        with torch.no_grad():
            asked = {"pixel_values": loaded._prepare(pixels)[None], "input_boxes": box, "multimask_output": True}
            found: torch.Tensor = model(**asked).pred_masks[0, 0]
        return found

    return answer


def by_sam_of_transformers(model: Any) -> Callable[[Any, np.ndarray], torch.Tensor]:
    """Logits for the box of a model that pads the scan to a square."""

    def answer(loaded: Any, pixels: np.ndarray) -> torch.Tensor:
        prepared = loaded._processor(
            images=torch.from_numpy(pixels).permute(2, 0, 1), do_rescale=False, do_convert_rgb=False,
            input_data_format="channels_first", return_tensors="pt",
        )  # fmt: skip
        height, width = prepared["reshaped_input_sizes"][0].tolist()
        box = torch.from_numpy(BOX[None]) * torch.tensor([width / SCAN[1], height / SCAN[0]]).repeat(2)
        with torch.no_grad():
            asked = {"pixel_values": prepared["pixel_values"], "input_boxes": box, "multimask_output": True}
            found: torch.Tensor = model(**asked).pred_masks[0, 0]
        return found

    return answer


def sam(place: Path) -> Found:
    """facebook/sam-vit-base."""
    model, folder = transformers_model("Sam", place)
    return segmenter(folder, by_sam_of_transformers(model))


def sam_hq(place: Path) -> Found:
    """syscv-community/sam-hq-vit-base."""
    model, folder = transformers_model("SamHQ", place)
    return segmenter(folder, by_sam_of_transformers(model))


def sam2(place: Path) -> Found:
    """facebook/sam2.1-hiera-tiny."""
    import transformers

    model, folder = transformers_model("Sam2Video", place)
    reference = transformers.Sam2Model(transformers.Sam2Config()).eval()
    reference.load_state_dict(model.state_dict(), strict=False)
    return segmenter(folder, by_transformers(reference))


def sam2_pt(place: Path) -> Found:
    """sam2.1_hiera_tiny.pt."""
    import transformers
    from checkpoints import randomise
    from sam2_files import original_sam2_state

    place.mkdir()
    path = place / "sam2.1_hiera_tiny.pt"
    if importlib.util.find_spec("sam2") is None:
        model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
        randomise(model, 0)
        torch.save({"model": original_sam2_state(model.state_dict())}, path)
        return segmenter(path, None)
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    original = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
    randomise(original, 0)
    torch.save({"model": original.state_dict()}, path)

    def answer(_: Any, pixels: np.ndarray) -> torch.Tensor:
        predictor = SAM2ImagePredictor(original.eval())
        predictor.set_image(np.rint(pixels * 255).astype(np.uint8))
        return torch.from_numpy(predictor.predict(box=BOX[0], multimask_output=True)[2])

    return segmenter(path, answer)


def edgetam(place: Path) -> Found:
    """yonigozlan/EdgeTAM-hf."""
    import transformers
    from sam2_files import CONFIGS

    vision = dict(CONFIGS["EdgeTam"]["vision_config"])
    for name in ("backbone_feature_sizes", "fpn_hidden_size"):
        del vision[name]
    model = transformers.EdgeTamModel(transformers.EdgeTamConfig(vision_config=vision))
    return segmenter(folder_of(model, place), by_transformers(model))


def mobile_sam(_: Path) -> Found:
    """mobile-sam, which ships."""
    return segmenter("mobile-sam", None)


def bundled(_: Path) -> Found:
    """bundled, which ships."""
    return segmenter("bundled", None)


def mobile_sam_pt(checkpoint: Path) -> Found:
    """mobile_sam.pt as published."""
    if importlib.util.find_spec("mobile_sam") is None:
        return segmenter(checkpoint, None)

    def answer(_: Any, pixels: np.ndarray) -> torch.Tensor:
        from mobile_sam import SamPredictor, sam_model_registry

        predictor = SamPredictor(sam_model_registry["vit_t"](checkpoint=str(checkpoint)).eval())
        predictor.set_image(np.rint(pixels * 255).astype(np.uint8))
        return torch.from_numpy(predictor.predict(box=BOX[0], multimask_output=True)[2])

    return segmenter(checkpoint, answer)


def clip(place: Path) -> Found:
    """openai/clip-vit-base-patch32, the size of PubMedCLIP."""
    return _clip("CLIP", place)


def siglip(place: Path) -> Found:
    """google/siglip-base-patch16-224."""
    return _clip("Siglip", place)


def _clip(kind: str, place: Path) -> Found:
    from checkpoints import write_tokenizer

    model, folder = transformers_model(kind, place)
    write_tokenizer(folder, vocabulary=256)
    return encoder(folder, lambda pixels: model.get_image_features(pixel_values=pixels).pooler_output)


FAMILIES: dict[str, Callable[[Path], Found]] = {
    each.__name__: each
    for each in (bundled, mobile_sam, mobile_sam_pt, sam, sam_hq, sam2, sam2_pt, edgetam, clip, siglip)
}


@app.command(hidden=True)
def one(name: str, place: Path, threads: int) -> None:
    """One family in this process; prints a line of JSON."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(HELPERS))
    torch.set_num_threads(threads)
    print(json.dumps(FAMILIES[name](place)))


@app.command()
def table(
    threads: int = 2,
    only: Annotated[str, typer.Option(help="names of families, by commas")] = "",
    mobile_sam: Annotated[Path | None, typer.Option(help="mobile_sam.pt as published")] = None,
) -> None:
    """Print the table, a family a row."""
    chosen = only.split(",") if only else [name for name in FAMILIES if mobile_sam or name != "mobile_sam_pt"]
    print(f"{made_with(f'{threads} threads')}\n")
    columns = ("family", "loaded from", "differs", "load", "encode", "a click or a dense map", "peak, GiB")
    print(table_head(columns))
    for name in chosen:
        with tempfile.TemporaryDirectory() as temporary:
            place = mobile_sam if name == "mobile_sam_pt" and mobile_sam else Path(temporary) / name
            command = [sys.executable, __file__, "one", name, str(place), str(threads)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(answer.splitlines()[-1])
        differs = f"{found['differs']:.0e}" if "differs" in found else "not compared"
        rest = [f"{found['load']:.1f}", f"{found['encode']:.1f}", f"{found.get('decode', found.get('dense')):.2f}"]
        print(
            table_row([name, str(FAMILIES[name].__doc__).rstrip("."), differs, *rest, f"{found['peak']:.2f}"]),
            flush=True,
        )
        progress.print(f"{name}: done")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("one", "table", "--help"):
        sys.argv.insert(1, "table")
    app()
