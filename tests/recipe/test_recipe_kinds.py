"""The fit of kinds of scan: which scans, what is learnt, and the file that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from recipe.kinds import Seen, chosen, embed_scan, fit, report, see, write
from tests.recipe.test_sets import write_rows


def seen(*, noise: float = 0.1) -> Seen:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 8).repeat_interleave(12, 0)
    rows = torch.nn.functional.normalize(centres + noise * torch.randn(36, 8, generator=generator), dim=1)
    kinds = tuple(k for k in ("colon", "knee", "skin") for _ in range(12))
    return Seen(rows, kinds, kinds, tuple(k % 3 > 0 for k in range(36)))


class Flat:
    """An encoder that sees the mean colour."""

    input_size = 16
    mean = torch.zeros(3)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pixels.mean((2, 3)), dim=1)


class TestFit:
    def test_kinds_are_told_on_scans_that_were_not_fitted_to(self) -> None:
        names = ("colon", "knee", "skin")
        weights, biases = fit(seen(), names)
        lines = [*report(seen(), names, weights, biases)]
        assert [line.split(",")[0] for line in lines] == [f"{n}: 4 scans" for n in names]
        assert all("100% as" in line for line in lines)

    def test_decay_keeps_shares_soft(self) -> None:
        names = ("colon", "knee", "skin")
        rows = seen().rows
        sure, soft = (
            torch.softmax(rows @ w.T + b, 1).amax(1).mean()
            for w, b in (fit(seen(), names, decay=d) for d in (1e-4, 1e-1))
        )
        assert sure > soft + 0.1

    def test_a_kind_that_is_rare_weighs_as_much(self) -> None:
        few = seen(noise=0.3)
        train = tuple(
            use and (kind != "skin" or k > 33) for k, (use, kind) in enumerate(zip(few.train, few.kinds, strict=True))
        )
        weights, biases = fit(Seen(few.rows, few.kinds, few.sources, train), ("colon", "knee", "skin"))
        shares = torch.softmax(few.rows[24:] @ weights.T + biases, 1)
        assert float((shares.argmax(1) == 2).float().mean()) > 0.9


class TestScans:
    def test_held_back_patients_are_not_fitted_to(self, tmp_path: Path) -> None:
        for name in ("organs_ct", "lgg"):
            label = {"organs_ct": "liver", "lgg": "glioma"}[name]
            write_rows(tmp_path, name, [{"label": label, "bbox": "5 5 9 9"}], np.full((16, 16), 90, np.uint8))
        folds = [[*chosen(tmp_path, fold=k, train=5, held_back=5, seed=0)] for k in range(5)]
        assert sum(fitted for found in folds for name, _, fitted, _ in found if name == "organs_ct") == 4
        assert not any(fitted for found in folds for name, _, fitted, _ in found if name == "lgg")
        assert {kind for found in folds for _, kind, _, _ in found} == {"abdominal CT", "brain"}

    def test_embeddings_are_kept_and_gone_on_from(self, tmp_path: Path) -> None:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
        write_rows(tmp_path, "knee_xr", [{"label": "femur", "bbox": "5 5 9 9"}], ramp)
        kept = tmp_path / "rows.pt"
        how = {"fold": 0, "train": 2, "held_back": 2, "phantoms": 1, "seed": 0, "kept": kept}
        first = see(Flat(), tmp_path, **how)  # type: ignore[arg-type]
        torch.save({name: -row for name, row in torch.load(kept).items()}, kept)
        again = see(Flat(), tmp_path, **how)  # type: ignore[arg-type]
        assert again.rows[0].equal(-first.rows[0]) and again.rows[-1].equal(first.rows[-1])
        assert first.kinds == ("knee", "breast") and first.train[-1]

    def test_a_scan_is_shown_as_in_use(self) -> None:
        pixels = np.full((10, 16, 3), 0.2, np.float32)
        pixels[..., 0] = 0.4
        row = embed_scan(Flat(), pixels)
        torch.testing.assert_close(row, torch.nn.functional.normalize(torch.tensor([1.0, 0.5, 0.5]), dim=0))


def test_the_file_says_what_it_was_fitted_to(tmp_path: Path) -> None:
    write(tmp_path / "k.safetensors", ("a", "b"), torch.eye(2), torch.zeros(2), "f" * 64)
    with safe_open(tmp_path / "k.safetensors", framework="pt") as stored:
        assert stored.metadata() == {"format": "pt", "kinds": "a;b", "encoder": "f" * 64}
        assert stored.get_tensor("weights").dtype == torch.float16


def test_a_kind_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"tuple\.index"):
        fit(seen(), ("colon", "knee"))
