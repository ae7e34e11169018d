"""Ask a running `lexiseg serve` for a phrase, correct the mask with a click, and take it away.

lexiseg serve --no-open &
python examples/client.py scan.png "breast tumor" [--click 120.5 110.5] [--out mask.png] [--token TOKEN]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import httpx


class Client:
    """One visitor of a server; its scans are nobody else's.

    Args:
        address: of the server.
        token: that it printed, where it printed one.
    """

    def __init__(self, address: str = "http://127.0.0.1:7860", token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=f"{address.rstrip('/')}/api/v1", headers=headers, timeout=600)

    def send(self, path: Path) -> str:
        """Open a scan; its id."""
        with path.open("rb") as file:
            scans: list[dict[str, Any]] = self._told("POST", "/scans", files={"files": (path.name, file)})["scans"]
        return str(scans[0]["id"])

    def ask(self, scan: str, phrase: str) -> dict[str, Any]:
        """Look for a phrase, and wait; the target."""
        job = self._told("POST", f"/scans/{scan}/ask", json={"phrase": phrase})["job"]
        with self._http.stream("GET", f"/jobs/{job}/events") as events:
            lines = [line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: ")]
        last: dict[str, Any] = json.loads(lines[-1])
        if last["state"] != "done":
            raise SystemExit(last.get("error", last["state"]))
        target: dict[str, Any] = last["target"]
        return target

    def click(self, scan: str, target: int, x: float, y: float, *, inside: bool = True) -> None:
        """Correct the first plane."""
        change = {"kind": "click", "x": x, "y": y, "inside": inside}
        self._told("POST", f"/scans/{scan}/targets/{target}/edits", json=change)

    def export(self, scan: str, format: str) -> bytes:
        """The masks as a file; a zip where there are several."""
        return self._sent("GET", f"/scans/{scan}/export", params={"format": format}).content

    def _told(self, method: str, path: str, **what: Any) -> Any:
        return self._sent(method, path, **what).json()

    def _sent(self, method: str, path: str, **what: Any) -> httpx.Response:
        reply = self._http.request(method, path, **what)
        if reply.is_error:
            raise SystemExit(reply.json()["error"])
        return reply


def main() -> None:
    """Ask, say what was found, correct, write the mask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("phrase")
    parser.add_argument("--click", nargs=2, type=float, metavar=("X", "Y"))
    parser.add_argument("--out", type=Path, default=Path("mask.png"))
    parser.add_argument("--format", default="png")
    parser.add_argument("--address", default="http://127.0.0.1:7860")
    parser.add_argument("--token", default="")
    asked = parser.parse_args()
    client = Client(asked.address, asked.token)
    scan = client.send(asked.scan)
    target = client.ask(scan, asked.phrase)
    print(f"{target['name']}: {target['words']}")
    if asked.click:
        client.click(scan, target["id"], *asked.click)
    asked.out.write_bytes(client.export(scan, asked.format))


if __name__ == "__main__":
    main()
