"""Names that are looked up on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lexiseg.lazy import lazy_names


class TestLazyNames:
    def test_finds_a_name_in_its_module(self) -> None:
        find = lazy_names("collections", {"abc": ("Mapping",)})
        from collections.abc import Mapping

        assert find("Mapping") is Mapping

    def test_says_which_package_lacks_a_name(self) -> None:
        find = lazy_names("collections", {"abc": ("Mapping",)})
        with pytest.raises(AttributeError, match=r"module 'collections' has no attribute 'Nothing'"):
            find("Nothing")

    def test_every_public_name_of_the_lazy_packages_is_there(self) -> None:
        import lexiseg

        assert all(getattr(lexiseg, name) is not None for name in lexiseg.__all__)

    def test_importing_the_package_leaves_torch_alone(self) -> None:
        code = "import sys, lexiseg, lexiseg.models, lexiseg.pipelines; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
