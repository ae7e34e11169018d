"""What the command refuses before anything listens, in one line and with nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lexiseg.cli.app import app
from lexiseg.errors import UsageError
from lexiseg.serve.models import Models
from lexiseg.serve.run import address, bind, token_of
from lexiseg.serve.settings import Limits, ServeSettings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "nope"], "nope"),
        (["--preset", "sam-box"], "needs true masks"),
        (["--segmenter", "nope"], "unknown segmenter 'nope': expected bundled, mobile-sam, hf-hub:ORG/REPO"),
        (["--token", "short"], "16 or more letters"),
        (["--host", "203.0.113.7"], "is no address of this machine"),
        (["--folder", "."], "give --text to segment"),
        (["--folder", "missing", "--text", "red"], "missing"),
    ],
)
def test_what_cannot_be(options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    result = CliRunner().invoke(app, ["serve", "--no-open", "--port", "0", *options])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert words in line
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_a_segmenter_of_ones_own_draws_in_the_presets_place() -> None:
    models = Models("demo", segmenter="mobile-sam")
    assert models.presets["demo"].segmenter == "mobile-sam" and models.presets["demo-salip"].segmenter == "bundled"
    assert Models("demo").presets["demo"].segmenter == "bundled"


def test_a_token_is_made_where_others_can_come() -> None:
    assert token_of(ServeSettings()) is None
    assert token_of(ServeSettings(token="a-token-of-my-own")) == "a-token-of-my-own"
    made = {
        token_of(ServeSettings(host="0.0.0.0")),
        token_of(ServeSettings(token="")),
        token_of(ServeSettings(token="")),
    }
    assert len(made) == 3 and all(each and len(each) >= 32 for each in made)


def test_the_address_can_be_opened() -> None:
    assert address(ServeSettings(), 1234, None) == "http://127.0.0.1:1234/"
    assert address(ServeSettings(host="::1"), 1234, "t") == "http://[::1]:1234/?token=t"
    assert "0.0.0.0" not in address(ServeSettings(host="0.0.0.0"), 1234, "t")


def test_a_port_is_one_servers() -> None:
    with bind(ServeSettings(port=0)) as held:
        held.listen()
        with pytest.raises(UsageError, match="in use; stop what uses it"):
            bind(ServeSettings(port=held.getsockname()[1]))


def test_limits_are_positive() -> None:
    with pytest.raises(UsageError, match="the limit files is 0"):
        Limits(files=0)
