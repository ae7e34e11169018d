"""Every public function and class has an example, and the examples hold."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import lexiseg
from lexiseg.datasets.phantoms.registry import generate

PACKAGE = Path(lexiseg.__file__).parent


def _with_examples() -> list[str]:
    """Every module of the package that shows one."""
    shown = [path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    parts = (path.relative_to(PACKAGE.parent).with_suffix("").parts for path in sorted(shown))
    return [".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts]


MODULES = _with_examples()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scan.png, a phantom with a tumour of the breast, and its mask."""
    made = tmp_path_factory.mktemp("examples")
    phantom = generate("breast-ultrasound", 0, target=True)
    Pillow.fromarray(np.rint(phantom.scan.pixels * 255).astype(np.uint8)).save(made / "scan.png")
    mask = phantom.mask(phantom.phrase)
    Pillow.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(made / "mask.png")
    return made


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name, globs={**vars(module), "lexiseg": lexiseg})
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    tests = examples(name)
    assert tests
    for test in tests:
        said: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
        assert result.failed == 0, "".join(said)


def test_modules_with_examples_are_found() -> None:
    assert {"lexiseg.api", "lexiseg.io.write", "lexiseg.values.scans"} <= set(MODULES)


@pytest.mark.parametrize("name", [each for each in lexiseg.__all__ if each[0].islower() and not each.startswith("__")])
def test_every_public_function_has_an_example(name: str) -> None:
    public: Any = getattr(lexiseg, name)
    assert ">>>" in (inspect.getdoc(public) or "")
