"""Fit which kind of scan is in view: ``python -m recipe.kinds --data DIR --out FILE``.

A softmax on the bundled encoder's embedding of whole scans, fitted to some scans of each set's training patients and
of phantoms; what the encoder itself learnt stays as it is.  Kinds weigh alike, however many sets show them.  The file
replaces src/lexiseg/bundled/clip/kinds.safetensors; it holds no scan, but a mean of many in its weights.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lexiseg.io.read import read_scan
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.base import clip_bright
from lexiseg.saliency.framing import frame_scan
from recipe.data import ORGAN_OF_SET, phantom_samples, read_rows, split_rows
from recipe.sets import BRIGHT, load_sets

FILE = Path(__file__).parents[1] / "src" / "lexiseg" / "bundled" / "clip" / "kinds.safetensors"
DECAY = 1e-6
"""Half the weight of the squared weights against the mean cross-entropy."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the encoder makes of some scans.

    Attributes:
        rows: (N, E), unit length.
        kinds: of each; sources: its set, or "phantom".
        train: True where it may be fitted to.
    """

    rows: Tensor
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    train: tuple[bool, ...]


def embed_scan(encoder: Any, pixels: Any) -> Tensor:
    """The embedding (E,) of a whole scan as the preset `demo` shows it: float32 (H, W) or (H, W, 3) in [0, 1]."""
    red, green, blue = (float(v) for v in encoder.mean.flatten().tolist())
    (frame,) = frame_scan((pixels.shape[0], pixels.shape[1]), size=encoder.input_size, fill=(red, green, blue))
    with torch.inference_mode():
        return torch.as_tensor(encoder.encode_image(frame.apply(clip_bright(pixels, BRIGHT)))[0]).float().clone()


def chosen(root: Path, *, fold: int, train: int, held_back: int, seed: int) -> Iterator[tuple[str, str, bool, Path]]:
    """Scans as (set, kind, may be fitted to, path): so many of each set, by chance; of lgg none to fit to."""
    _, sources = load_sets()
    for name in (*sources, "lgg"):
        folder = root / name
        if not (folder / "manifest.csv").is_file():
            continue
        kind = sources[name].kind if name in sources else "brain"
        for validation, count in ((False, train * (1 + (name in ORGAN_OF_SET))), (True, held_back)):
            rows = read_rows(folder) if name == "lgg" else split_rows(folder, validation=validation, fold=fold)
            images = sorted({row["image"] for row in rows})
            if name == "lgg" and not validation:
                continue
            for image in random.Random(f"{seed}-{name}").sample(images, min(count, len(images))):
                yield name, kind, not validation, folder / image


def fit(seen: Seen, names: Sequence[str], *, decay: float = DECAY) -> tuple[Tensor, Tensor]:
    r"""Weights (K, E) and biases (K,) of the softmax, by L-BFGS.

    .. math:: -\frac1K \sum_k \frac1{n_k} \sum_{i \in k} \log q_k(e_i) + \frac{\lambda}{2} |W|^2
    """
    use = torch.tensor(seen.train)
    rows = seen.rows[use]
    own = torch.tensor([names.index(kind) for kind, train in zip(seen.kinds, seen.train, strict=True) if train])
    each = 1.0 / own.bincount(minlength=len(names)).clamp(min=1).float()[own] / len(names)
    weights = torch.zeros(len(names), rows.shape[1], requires_grad=True)
    biases = torch.zeros(len(names), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, biases], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = functional.cross_entropy(rows @ weights.T + biases, own, reduction="none")
        total = (errors * each).sum() + decay / 2 * weights.square().sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), biases.detach()


def see(
    encoder: Any,
    root: Path,
    *,
    fold: int,
    train: int,
    held_back: int,
    phantoms: int,
    seed: int,
    kept: Path | None = None,
) -> Seen:
    """Embed what is chosen of every set, and phantoms.

    Args:
        encoder: the bundled one.
        root: folder of the sets.
        fold: which fifth of the patients is kept back.
        train: scans of each set to fit to.
        held_back: scans of each set that are kept back.
        phantoms: to fit to.
        seed: of the choice.
        kept: a file of embeddings by set and image, from which a run that was stopped goes on; None for none.
    """
    found: list[tuple[Tensor, str, str, bool]] = []
    before: dict[str, Tensor] = torch.load(kept, weights_only=True) if kept and kept.is_file() else {}
    for name, kind, fitted, path in chosen(root, fold=fold, train=train, held_back=held_back, seed=seed):
        key = f"{name}/{path.name}"
        if key not in before:
            before[key] = embed_scan(encoder, cast(Any, read_scan(path)).pixels)
            if kept and len(before) % 20 == 0:
                torch.save(before, kept)
        found.append((before[key], kind, name, fitted))
    if kept:
        torch.save(before, kept)
    for sample in phantom_samples(phantoms, 384, seed):
        found.append((embed_scan(encoder, sample.image.astype(np.float32) / 255), sample.organ, "phantom", True))
    rows, kinds, sources, fitted_to = zip(*found, strict=True)
    return Seen(torch.stack(rows), kinds, sources, fitted_to)


def report(seen: Seen, names: Sequence[str], weights: Tensor, biases: Tensor) -> Iterator[str]:
    """For each set that was kept back: seen as its kind, and the least share of it."""
    shares = torch.softmax(seen.rows @ weights.T + biases, 1)
    for source in dict.fromkeys(seen.sources):
        mine = [
            i for i, (s, train) in enumerate(zip(seen.sources, seen.train, strict=True)) if s == source and not train
        ]
        if mine:
            own = names.index(seen.kinds[mine[0]])
            right = (shares[mine].argmax(1) == own).float().mean()
            yield f"{source}: {len(mine)} scans, {right:.0%} as {names[own]}, least share {shares[mine, own].min():.2f}"


def write(path: Path, names: Sequence[str], weights: Tensor, biases: Tensor, encoder: str) -> None:
    """The file that ships; `encoder` is the sha256 of the weights that it was fitted to."""
    tensors = {"weights": weights.half().contiguous(), "biases": biases.half().contiguous()}
    save_file(tensors, path, metadata={"format": "pt", "kinds": ";".join(names), "encoder": encoder})


def main(
    *,
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    out: Annotated[Path, typer.Option(help="the file")] = FILE,
    train: Annotated[int, typer.Option(help="scans of each set to fit to; twice as many of the four older")] = 24,
    held_back: Annotated[int, typer.Option(help="scans of each set that are kept back")] = 12,
    phantoms: Annotated[int, typer.Option(help="phantoms to fit to")] = 16,
    kept: Annotated[Path | None, typer.Option(help="keep embeddings here, and go on from them")] = None,
    precision: Annotated[str, typer.Option(help="of the encoder: float32 or bfloat16")] = "float32",
    threads: int = 1,
    seed: int = 20261128,
) -> None:
    """Fit the kinds of scan to the bundled encoder, write them, and print how well they are told."""
    torch.set_num_threads(threads)
    encoder = cast(Any, load_encoder("bundled", device="cpu", precision=precision))
    seen = see(encoder, data, fold=0, train=train, held_back=held_back, phantoms=phantoms, seed=seed, kept=kept)
    names = sorted(load_sets()[0])
    weights, biases = fit(seen, names)
    write(out, names, weights, biases, encoder.weights.sha256)
    typer.echo("\n".join(report(seen, names, weights, biases)))


if __name__ == "__main__":
    typer.run(main)
