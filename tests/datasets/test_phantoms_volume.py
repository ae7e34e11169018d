from __future__ import annotations

import itertools

import numpy as np
import pytest

from lexiseg.datasets.phantoms.volume import PhantomVolume, generate_volume
from lexiseg.errors import UsageError

SPACING = (4.0, 2.0, 2.0)


def made(seed: int = 3, **options: object) -> PhantomVolume:
    chosen = {"slices": 16, "size": 96, "spacing": SPACING, "plane": "axial", **options}
    return generate_volume("brain-mri", seed, **chosen)  # type: ignore[arg-type]


def test_the_lesion_spans_as_many_mm_along_the_stack_as_it_is_wide() -> None:
    found = made()
    shown = np.flatnonzero(found.target.any(axis=(1, 2)))
    assert list(shown) == list(range(shown[0], shown[-1] + 1))
    # A slice more or less at either end, where the cross-section is below a pixel.
    assert abs(len(shown) * SPACING[0] - found.diameter_mm) <= 2 * SPACING[0]


def test_its_volume_is_that_of_an_ellipsoid_of_its_middle_slice() -> None:
    found = made(slices=40, spacing=(1.5, 2.0, 2.0), size=128)
    volume = float(found.target.sum()) * 1.5 * 2 * 2
    # The middle of a stack is narrowed by next to nothing, its ends by 30 %: less than 20 % of the volume here.
    assert 0.75 < volume / (np.pi / 6 * found.diameter_mm**3) < 1.05


def test_without_the_target_nothing_is_true_and_the_patient_is_the_same() -> None:
    found, healthy = made(), made(target=False)
    assert not healthy.target.any() and healthy.diameter_mm == 0
    outside = ~found.target.any(axis=(1, 2))
    np.testing.assert_array_equal(found.scan.values[outside], healthy.scan.values[outside])
    assert "brain tumor" in healthy.absent_phrases


def test_the_same_arguments_give_the_same_bytes() -> None:
    first, again, other = made(), made(), made(seed=4)
    assert first.scan.values.tobytes() == again.scan.values.tobytes() != other.scan.values.tobytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"slices": 2}, "at least 3"), ({"spacing": (0.0, 1.0, 1.0)}, "mm above 0"), ({"colour": "red"}, "colour")],
)
def test_what_cannot_be_is_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(**options)


def test_lungs_are_always_there() -> None:
    with pytest.raises(UsageError, match="always show 'lungs'"):
        generate_volume("chest-xray", 1, size=64)


@pytest.fixture(scope="module")
def abdomen() -> PhantomVolume:
    return generate_volume("abdominal-ct", 2, slices=19, size=96, spacing=(6.0, 3.0, 3.0))


class TestAbdomen:
    """A patient whose organs are known at every level."""

    def test_it_is_a_ct_in_hounsfield_units(self, abdomen: PhantomVolume) -> None:
        values = abdomen.scan.values
        assert abdomen.scan.unit == "HU" and abdomen.scan.spacing == (6.0, 3.0, 3.0)
        assert values.min() < -900 and values.max() > 250
        assert abs(float(np.median(values[abdomen.target])) - 85) < 50

    def test_organs_lie_in_order_from_pelvis_to_lungs(self, abdomen: PhantomVolume) -> None:
        middles = [
            float(np.flatnonzero(abdomen.structures[name].any(axis=(1, 2))).mean())
            for name in ("kidneys", "liver", "lungs")
        ]
        assert middles == sorted(middles)
        assert not abdomen.structures["liver"][0].any() and abdomen.structures["aorta"].any(axis=(1, 2)).all()

    def test_neighbouring_slices_are_of_one_patient(self, abdomen: PhantomVolume) -> None:
        liver = abdomen.target
        shared = [(a & b).sum() / min(a.sum(), b.sum()) for a, b in itertools.pairwise(liver) if a.any() and b.any()]
        assert len(shared) > 6 and min(shared) > 0.85
        noise = abdomen.scan.values[:, :8, :8]
        assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(noise))

    def test_left_and_right_are_the_patients(self, abdomen: PhantomVolume) -> None:
        left, right = (np.nonzero(abdomen.structures[f"{side} kidney"])[2].mean() for side in ("left", "right"))
        assert left > right
        union = abdomen.structures["left kidney"] | abdomen.structures["right kidney"]
        np.testing.assert_array_equal(union, abdomen.structures["kidneys"])

    def test_without_its_target_it_cannot_be(self) -> None:
        with pytest.raises(UsageError, match="always show 'liver'"):
            generate_volume("abdominal-ct", 1, size=64, target=False)
