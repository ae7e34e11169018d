"""For all tests: one number format and hub everywhere, and on CI the same examples in every run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Set where somebody works offline; the tests bring a hub of their own, and those of "offline" set it again.
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def float32_unless_asked() -> Iterator[None]:
    """Precision "auto" is bfloat16 on CPUs that multiply it fast: comparisons with a reference would hold on
    some machines alone.  Tests of bfloat16 ask for it by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lexiseg.models.loading._fast_bfloat16", lambda device: False)
        yield
