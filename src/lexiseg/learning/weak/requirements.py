"""What students need besides lexiseg's own dependencies."""

from __future__ import annotations

from importlib.util import find_spec

from lexiseg.errors import UsageError


def require_training() -> None:
    """Pass where MONAI and Lightning are installed.

    Raises:
        UsageError: they are not; says what to install.
    """
    missing = [name for name in ("monai", "lightning") if find_spec(name) is None]
    if missing:
        raise UsageError(f"students need {' and '.join(missing)}: pip install 'lexiseg[train]'")
