"""Tiny checkpoints in the published layouts, made once, and a network that must not be used."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from checkpoints import make_biomedclip_folder, make_sam_folder, make_sam_pth
from towers import TOWERS, make_tower_folder

from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.loading import load_encoder


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pulled models and the hub's cache lie in an empty folder of this test's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LEXISEG_HOME", str(home / "lexiseg"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be made and no name resolved; whoever tries fails the test."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_biomedclip_folder(folder / "biomedclip", size="tiny")
    make_sam_folder(folder / "sam", size="tiny")
    make_sam_pth(folder / "sam_vit_tiny.pth", size="tiny")
    return folder


@pytest.fixture
def biomedclip(_made: Path) -> Path:
    """A tiny open_clip folder in BiomedCLIP's layout; not to be written to."""
    return _made / "biomedclip"


@pytest.fixture
def sam(_made: Path) -> Path:
    """A tiny transformers SamModel folder; not to be written to."""
    return _made / "sam"


@pytest.fixture
def sam_pth(_made: Path) -> Path:
    """The same numbers as `sam` in the original layout; not to be written to."""
    return _made / "sam_vit_tiny.pth"


@pytest.fixture
def biomedclip_copy(biomedclip: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(biomedclip, tmp_path / "biomedclip"))


@pytest.fixture
def sam_copy(sam: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(sam, tmp_path / "sam"))


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenClipEncoder]:
    """A small encoder with each kind of image tower; not to be changed."""
    root = tmp_path_factory.mktemp("towers")
    return {
        kind: load_encoder(str(make_tower_folder(root / str(index), kind)), device="cpu", precision="float32")
        for index, kind in enumerate(TOWERS)
    }
