"""What the bars say."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lexiseg.cli import terminal
from lexiseg.runs.segment import RunProgress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that remembers."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(terminal, "talk", lambda: console)
    return file


def test_a_volume_shows_its_slice_and_an_image_does_not(screen: io.StringIO) -> None:
    with terminal.run_bar(quiet=False) as (tell, _):
        tell(RunProgress(0.4, 2, "ct.nii.gz", 0, slice=120, slices=300))
    assert "ct.nii.gz  slice 120/300" in screen.getvalue()
    screen.truncate(0)
    with terminal.run_bar(quiet=False) as (tell, _):
        tell(RunProgress(1, 2, "a.png", 1))
    assert "a.png" in screen.getvalue() and "slice" not in screen.getvalue() and "1 failed" in screen.getvalue()
