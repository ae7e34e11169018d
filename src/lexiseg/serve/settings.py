"""What a server is told when it starts, and what it allows."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.settings import check_precision

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one visitor may ask for.

    Attributes:
        bytes: of one upload.
        pixels: of an image (rows x columns).
        voxels: of a volume.
        files: in one upload.
        phrase: characters of a phrase or a name.
        queue: jobs that wait, of all visitors together.
        waiting: jobs that wait, of one visitor.
        scans: that one visitor has open.
        encodings: bytes of encodings that are kept, of all visitors together.
        open_bytes: bytes of scans that are kept in memory; others are read again when they are asked for.
    """

    bytes: int = 2**29
    pixels: int = 2**26
    voxels: int = 2**28
    files: int = 4000
    phrase: int = 200
    queue: int = 256
    waiting: int = 32
    scans: int = 100
    encodings: int = 2**29
    open_bytes: int = 2**31

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UsageError(f"the limit {name} is {value}; expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server is started.

    Attributes:
        host: the address to listen on.
        port: 0 takes a free one.
        token: what a visitor must know; None for none on loopback, and for a new one elsewhere; "" asks for a new one.
        preset: that answers unless another is asked for.
        segmenter: in place of the preset's, which draws clicks and boxes too; "" leaves it.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: see `Preset.at_once`; None for what each preset says.
        folder: scans for a worklist; None for none.
        manifest: a CSV of scans for a worklist; None for none.
        results: where the worklist's masks and results.csv go, or a finished run to be reviewed.
        phrases: asked of every scan of the worklist.
        state: where uploads and edits are kept; None for a folder of this launch alone.
        names: host names, besides the address, under which the server may be reached.
        limits: see `Limits`.

    Raises:
        UsageError: a setting cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    preset: str = "demo"
    segmenter: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    folder: Path | None = None
    manifest: Path | None = None
    results: Path | None = None
    phrases: tuple[str, ...] = ()
    state: Path | None = None
    names: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port is {self.port}; expected 0 to 65535")
        check_precision(self.precision)
        if self.token and (len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()):
            raise UsageError("the token is too short or not plain; expected 16 or more letters and digits")

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach the server."""
        return self.host in LOOPBACK


def state_root() -> Path:
    """Where launches keep what they need: the user's state folder (XDG_STATE_HOME), in lexiseg/serve."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "lexiseg" / "serve"
