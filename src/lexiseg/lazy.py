"""Names of a package that are imported on first use (PEP 562), so that `import` costs nothing until then."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A module's ``__getattr__``.

    Args:
        package: its ``__name__``.
        homes: module (relative to the package) -> the public names that live there.

    Returns:
        A function from name to object; AttributeError for a name that no module has.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return find
