"""The 3D view: NiiVue's script, as its package brings it, in a browser with WebGL."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pages import ServerProcess, Visit, chromium
from PIL import Image as Pillow


@pytest.mark.fullsize
def test_a_target_stands_in_3d(tmp_path: Path) -> None:
    pytest.importorskip("ipyniivue", reason="ipyniivue is not installed")
    path = tmp_path / "block.nii.gz"
    values = np.zeros((32, 32, 8), np.int16)
    values[8:24, 8:24, 2:6] = 1000
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 4.0, 1.0])), path)
    server = ServerProcess(tmp_path / "state", tmp_path / "log.txt")
    try:
        # WebGL without a graphics card.
        with chromium("--enable-unsafe-swiftshader") as browser:
            visit = Visit(browser, server.url)
            visit.upload(path)
            visit.page.keyboard.press("d")
            for k in ("3", "4"):
                visit.page.fill("#slice", k)
                visit.drawn()
                visit.click(16, 16)
            visit.page.click("[data-layout=surface]")
            # The target's colour, more or less lit.
            for _ in range(60):
                visit.page.wait_for_timeout(500)
                picture = visit.page.locator(".surface").screenshot()
                red, green, blue = np.asarray(Pillow.open(io.BytesIO(picture)).convert("RGB"), int).transpose(2, 0, 1)
                if ((red > 90) & (red > 1.2 * green) & (blue < 40)).mean() > 0.01:
                    break
            else:
                raise AssertionError(f"nothing is seen in 3D: {visit.says()}")
            visit.close()
    finally:
        server.stop()
