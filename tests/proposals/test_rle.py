"""COCO's run-length encoding, against its definition and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lexiseg.proposals.files import rle_decode, rle_encode

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


def by_definition(mask: np.ndarray) -> str:
    """The encoding one run and one digit at a time."""
    runs, current = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != current:
            runs.append(0)
            current = bool(pixel)
        runs[-1] += 1
    text = ""
    for index, run in enumerate(runs):
        rest = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            digit = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if digit & 0x10 else 0)
            text += chr(48 + digit + (0x20 if more else 0))
    return text


def large_mask() -> np.ndarray:
    rows, columns = np.mgrid[:700, :900]
    return (rows - 300) ** 2 + (columns - 400) ** 2 < 80_000


class TestEncode:
    def test_a_known_string(self) -> None:
        # Column by column: 1 background, 2 foreground, 1 background.
        assert rle_encode(np.array([[False, True], [True, False]])) == "121"

    @given(MASKS)
    def test_follows_the_definition(self, mask: np.ndarray) -> None:
        assert rle_encode(mask) == by_definition(mask)

    def test_runs_of_many_digits(self) -> None:
        assert rle_encode(large_mask()) == by_definition(large_mask())

    def test_pycocotools_reads_it(self) -> None:
        coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
        noise = np.random.default_rng(0).random((61, 47)) < 0.3
        for mask in (large_mask(), noise, ~noise, np.ones((3, 5), np.bool_), np.zeros((3, 5), np.bool_)):
            text = rle_encode(mask)
            assert np.array_equal(coco.decode({"size": list(mask.shape), "counts": text}), mask)
            assert coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode() == text


class TestDecode:
    @given(MASKS)
    def test_undoes_encode(self, mask: np.ndarray) -> None:
        assert np.array_equal(rle_decode(rle_encode(mask), mask.shape), mask)

    def test_undoes_encode_of_long_runs(self) -> None:
        assert np.array_equal(rle_decode(rle_encode(large_mask()), (700, 900)), large_mask())

    @pytest.mark.parametrize("text", ["", "12", "P", "1\x00", "ä", "~~~", "o" * 13 + "0"])
    def test_nonsense_is_an_error(self, text: str) -> None:
        with pytest.raises(ValueError, match="RLE"):
            rle_decode(text, (2, 2))

    @given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=20))
    def test_any_string_is_a_mask_or_an_error(self, text: str) -> None:
        try:
            mask = rle_decode(text, (4, 5))
        except ValueError:
            return
        assert mask.shape == (4, 5)
