from __future__ import annotations

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
