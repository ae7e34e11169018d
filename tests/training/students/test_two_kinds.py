"""A pool of two kinds of scan: those that cannot hold the target are learnt as scans without it, and said."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lexiseg.datasets.phantoms.registry import generate
from lexiseg.training.students.labels import read_pseudo_labels
from lexiseg.training.students.pseudo_labels import PseudoLabelRequest, make_pseudo_labels


def test_scans_of_another_kind_are_learnt_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for modality in ("breast-ultrasound", "chest-xray"):
        phantom = generate(modality, 0, target=True)
        values = np.rint(phantom.scan.pixels * 255).astype(np.uint8)
        (tmp_path / "scans").mkdir(exist_ok=True)
        Pillow.fromarray(values).save(tmp_path / "scans" / f"{modality}.png")
    request = PseudoLabelRequest(
        out=tmp_path / "set", inputs=[tmp_path / "scans"], phrases=["breast tumor"], device="cpu", precision="float32"
    )
    with caplog.at_level(logging.WARNING):
        report = make_pseudo_labels(request)
    assert (report.kept, report.empty) == (2, 1)
    rows = {row.id: row for row in read_pseudo_labels(tmp_path / "set").rows}
    assert float(rows["chest-xray"].extra["presence"]) < 0.1
    assert "absent from 1 of 2 scans because of their kind" in caplog.text
