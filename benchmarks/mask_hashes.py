"""sha256 of the masks of real scans, phantoms and volumes, by the command line alone; two versions can be compared.

    python benchmarks/mask_hashes.py --data DATA --volumes VOLUMES --out masks.json
    python benchmarks/mask_hashes.py --data DATA --volumes VOLUMES --out new.json --compare masks.json

Masks are equal on one machine with as many threads, so run both versions there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SETS = {
    "busi": ("breast tumor",),
    "cxr": ("lungs", "left lung"),
    "hc18": ("fetal head",),
    "lgg": ("brain tumor",),
    "cheng": ("brain tumor",),
}
VOLUMES = {
    "lgg_TCGA_CS_6667_20011105": ("brain tumor",),
    "cardiac_mr_6": ("brain tumor", "lungs"),
    "lung_ct_1": ("lungs",),
    "chaos_mr_15": ("brain tumor",),
}
EACH = 8


def main() -> int:
    """Hash, write, and where asked compare: exit status 1 where a mask differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the sets of scans")
    parser.add_argument("--volumes", type=Path, required=True, help="folder with NIfTI volumes")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--compare", type=Path, help="JSON of another version")
    parser.add_argument("--presets", nargs="+", default=["demo", "demo-salip"])
    options = parser.parse_args()
    found: dict[str, str] = {}
    for preset in options.presets:
        for name, phrases in SETS.items():
            scans = _spread(options.data / name)
            found |= _hashes(f"{preset}/{name}", preset, scans, phrases)
        for name, phrases in VOLUMES.items():
            found |= _hashes(f"{preset}/volumes", preset, [options.volumes / f"{name}.nii.gz"], phrases)
        with tempfile.TemporaryDirectory() as folder:
            _run("demo", "--out", folder, "--preset", preset)
            found |= _of_folder(f"{preset}/phantoms", Path(folder, "results"))
    options.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(
        f"{len(found)} masks, sha256 of all: {hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()}"
    )
    if options.compare is None:
        return 0
    before = json.loads(options.compare.read_text(encoding="utf-8"))
    missing = sorted(set(before) - set(found))
    differing = [name for name in before if name in found and found[name] != before[name]]
    print(f"{len(before) - len(missing) - len(differing)} equal, {len(differing)} differ, {len(missing)} missing")
    for name in (*differing, *missing):
        print("  ", name)
    return 1 if differing or missing else 0


def _spread(folder: Path) -> list[Path]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        images = sorted({row["image"] for row in csv.DictReader(handle)})
    step = len(images) // EACH
    return [folder / images[k * step] for k in range(EACH)]


def _hashes(title: str, preset: str, scans: list[Path], phrases: tuple[str, ...]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        texts = [word for phrase in phrases for word in ("--text", phrase)]
        _run("segment", *map(str, scans), *texts, "--preset", preset, "--out", folder)
        return _of_folder(title, Path(folder))


def _of_folder(title: str, folder: Path) -> dict[str, str]:
    files = sorted(path for ending in ("mask", "labels") for path in folder.glob(f"*_{ending}.*"))
    return {f"{title}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _run(*arguments: str) -> None:
    command = [sys.executable, "-c", "from lexiseg.cli.main import run; run()", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
