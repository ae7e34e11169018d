"""Does each saliency method find the phrase?  And what does it cost?

    python benchmarks/saliency.py --data ../shared/data [--encoder bundled] [--scans 10] [--kept FOLDER]

Held-out scans with a target.  Pointing game: is the maximum inside the mask?  AUC: how often is a pixel inside more
salient than one outside?  Dice: of the map cut at one half.  Insertion and deletion (Petsiuk et al., RISE, BMVC 2018):
the mean probability of the phrase while pixels, the most salient first, are put into the encoder's mean colour, or
taken out of the scan; the higher the first and the lower the second, the better the map tells what the encoder looks
at.  With `--kept` each scan's answers are written to that folder, and are not made again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from common import TARGETS, Row, made_with, progress, scored_rows, table_head, table_row
from lexiseg.errors import UnsupportedByModel
from lexiseg.evaluation.metrics.localisation import pointing_game, saliency_auc
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.models.loading import load_encoder
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import global_evidence
from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.settings import method_class
from lexiseg.text.embedding import PhraseEmbedding, embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.values.arrays import FloatArray
from lexiseg.values.overlap import dice

SETS = ("busi", "cxr", "hc18", "lgg")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense, value": ("dense", {}),
    "dense, two shifts": ("dense", {"shifts": 2}),
    **{f"dense, {name}": ("dense", {"attention": name}) for name in ("sclip", "clearclip", "naclip", "gem")},
    "gradcam": ("gradcam", {}),
    "gradcam++": ("gradcam++", {}),
    "layercam": ("layercam", {}),
    "reciprocam": ("reciprocam", {}),
    "m2ib": ("m2ib", {}),
    "gscorecam, k 300": ("gscorecam", {"k": 300}),
}
MEASURES = ("pointing", "auc", "dice", "insertion", "deletion", "seconds")


def probability(encoder: Encoder, views: torch.Tensor, phrase: PhraseEmbedding) -> list[float]:
    """Of the phrase in each of some views (B, 3, S, S): what the encoder's training gives."""
    return [global_evidence(encoder, row[None], phrase).get("global", np.nan) for row in encoder.encode_image(views)]


def curves(
    encoder: Encoder, pixels: FloatArray, saliency: FloatArray, phrase: PhraseEmbedding, steps: int
) -> tuple[float, float]:
    """Mean probability while pixels are put in, and while they are taken out, the most salient first."""
    red, green, blue = (float(value) for value in encoder.mean.flatten().tolist())
    (frame,) = frame_scan(saliency.shape, size=encoder.input_size, fill=(red, green, blue))
    scan = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    grey = np.broadcast_to(np.array([red, green, blue], np.float32), scan.shape)
    rank = np.empty(saliency.size, np.int64)
    rank[np.argsort(-saliency.ravel(), kind="stable")] = np.arange(saliency.size)
    views = []
    for share in np.linspace(0, 1, steps + 1):
        shown = (rank < share * saliency.size).reshape(saliency.shape)[..., None]
        views += [frame.apply(np.where(shown, scan, grey)), frame.apply(np.where(shown, grey, scan))]
    found = [probability(encoder, view.to(encoder.device), phrase)[0] for view in views]
    return float(np.mean(found[::2])), float(np.mean(found[1::2]))


def ask(
    encoder: Encoder, folder: Path, row: Row, phrase: PhraseEmbedding, names: list[str], steps: int
) -> dict[str, dict[str, float]]:
    """Every method on one scan; without those that the encoder cannot do."""
    scan = read_scan(folder / row["image"])
    truth = read_mask(folder / row["mask"], scan)
    answers = {}
    for name in names:
        method, settings = METHODS[name]
        explain: Any = method_class(method)(**settings).explain
        began = time.process_time()
        try:
            found = explain(encoder, scan.pixels, [phrase])[0].map
        except UnsupportedByModel:
            continue
        answer = {"seconds": time.process_time() - began, "pointing": pointing_game(truth, found)}
        answer |= {"auc": saliency_auc(truth, found), "dice": dice(found >= 0.5, truth)}
        if steps:
            pixels: Any = scan.pixels
            answer["insertion"], answer["deletion"] = curves(encoder, pixels, found, phrase, steps)
        answers[name] = answer
    return answers


def main(
    data: Annotated[Path, typer.Option(help="the folder with all sets")] = Path("../shared/data"),
    encoder: str = "bundled",
    scans: Annotated[int, typer.Option(help="of each set, by chance")] = 10,
    sets: Annotated[str, typer.Option(help="names, by commas")] = ",".join(SETS),
    methods: Annotated[str, typer.Option(help="names, by semicolons; all where empty")] = "",
    steps: Annotated[int, typer.Option(help="of insertion and deletion; 0 leaves both out")] = 8,
    kept: Annotated[Path | None, typer.Option(help="folder for each scan's answers")] = None,
    precision: str = "auto",
    threads: int = 1,
) -> None:
    """Print a row for each method: means over all scans, and the pointing game by set."""
    torch.set_num_threads(threads)
    names = [name.strip() for name in methods.split(";")] if methods else list(METHODS)
    model = load_encoder(encoder, device="cpu", precision=precision)
    rows = {name: scored_rows(data / name, limit=scans, wanted=lambda row: row["bbox"]) for name in sets.split(",")}
    phrases = {name: embed_phrases(model, [phrase_set(TARGETS[name], ensemble=True)])[0] for name in rows}
    found: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in rows}
    for k in range(scans):  # a scan of each set in turn: whoever stops has as many of each
        for name, those in rows.items():
            if k >= len(those):
                continue
            file = kept / f"{name}.{those[k]['id']}.json" if kept is not None else None
            if file is not None and file.is_file():
                found[name].append(json.loads(file.read_text()))
                continue
            found[name].append(ask(model, data / name, those[k], phrases[name], names, steps))
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(found[name][-1]) + "\n")
            progress.print(f"{name} {those[k]['id']}: done")
    counts = ", ".join(f"{name} {len(each)}" for name, each in found.items())
    print(f"{made_with(f'{threads} threads', f'encoder {encoder}')}; scans: {counts}\n")
    print(table_head(["method", *MEASURES, *(f"pointing, {name}" for name in found)]))
    for method in names:
        those_of = {name: [each[method] for each in answers if method in each] for name, answers in found.items()}
        everything = [each for answers in those_of.values() for each in answers]
        if not everything:
            print(table_row([method, "not with this encoder", *[""] * (len(MEASURES) + len(found) - 1)]))
            continue
        cells = [f"{np.mean([each.get(measure, np.nan) for each in everything]):.2f}" for measure in MEASURES]
        by_set = [f"{np.mean([each['pointing'] for each in answers]):.2f}" for answers in those_of.values()]
        print(table_row([method, *cells, *by_set]))


if __name__ == "__main__":
    typer.run(main)
