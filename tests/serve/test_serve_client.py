"""The example client, against a server that listens."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from serving import RED, boxed, live, picture

EXAMPLE = Path(__file__).parents[2] / "examples" / "client.py"


def test_it_asks_corrects_and_takes_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("example_client", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "scan.png").write_bytes(picture())
    token = "a-token-of-this-launch"
    with live(tmp_path / "state", token=token) as (_, address):
        arguments = [
            "client.py",
            str(tmp_path / "scan.png"),
            "red",
            "--address",
            address,
            "--out",
            str(tmp_path / "m.png"),
        ]
        monkeypatch.setattr(sys, "argv", [*arguments, "--token", token, "--click", "50.5", "50.5"])
        module.main()
        assert capsys.readouterr().out.startswith("red: present, ")
        mask = np.asarray(Pillow.open(tmp_path / "m.png")) > 0
        np.testing.assert_array_equal(mask, boxed(*RED) | boxed(49, 49, 52, 52))
        monkeypatch.setattr(sys, "argv", [*arguments, "--token", "of-yesterday"])
        with pytest.raises(SystemExit, match="token is not valid any more"):
            module.main()
