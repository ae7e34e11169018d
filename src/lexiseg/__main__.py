"""`python -m lexiseg`, where the command itself is not on the path."""

from __future__ import annotations

from lexiseg.cli.main import run

run()
