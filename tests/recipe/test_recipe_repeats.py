"""Started again, in another process, the recipe draws the same and ends with the same weights."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'")

from recipe.side_by_side import groups_of
from recipe.side_by_side import main as side_by_side

pytestmark = pytest.mark.fullsize

TINY: dict[str, Any] = {
    "seed": 5, "fold": 0, "store_size": 64, "phantoms": 8,
    "encoder": {
        "mean": 0.25, "std": 0.25, "embed_dim": 16, "image_size": 64,
        "image_tower": "fpn_efficientnet_lite0",
        "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "init_logit_scale": 2.3, "init_logit_bias": -4.0, "warmup": 1, "shares": {"phantom": 1.0},
        "words": {"steps": 2, "batch": 8, "lr": 1.0e-3}, "precision": "bf16-mixed",
        "slow": {"visual.trunk.backbone.blocks.0": 0, "visual.trunk.backbone": 0.3},
        "phases": [{"resolution": 64, "batch": 4, "steps": 4, "lr": 1.0e-3}],
        "loss": {"dense": 1.0, "dice": 1.0, "negative": 1.0, "close": 0.5, "presence": 0.6, "caption": 0.15},
        "weight_decay": 0.05, "clip": 1.0, "ema": 0.9,
    },
    "segmenter": {
        "image_size": 64, "image_tower": "fpn_tiny_vit_5m_stem", "stride": 8, "channels": 16,
        "batch": 2, "prompts": 2, "warmup": 1, "slow": {"vision_encoder.tower.backbone.stages_0": 0},
        "precision": "bf16-mixed", "phases": [{"steps": 4, "lr": 1.0e-3, "lesions": 0.5}],
        "shares": {"phantom": 1.0},
        "weight_decay": 0.05, "clip": 1.0, "ema": 0.9,
    },
}  # fmt: skip
TINY["second"] = {**TINY["encoder"], "loss": {**TINY["encoder"]["loss"], "negative": 0.5}}
TINY["third"] = {**TINY["second"], "phases": [{**TINY["encoder"]["phases"][0], "steps": 2}]}
TRAINED = ("second", "third", "segmenter")

_DRAW_AND_TRAIN = f"""
import hashlib, random, sys
from pathlib import Path
import numpy as np
from recipe.augment import AugmentSettings, augment
from recipe.data import phantom_samples
from recipe.sampling import Sampler
from recipe.supervision import questions
from recipe.train import Which, main

samples = [s for s in phantom_samples(24, 64, 1) if s.organ in ("brain", "breast")]
rng, words = np.random.default_rng(0), random.Random(0)
drawn = Sampler(samples, {{"phantom": 1.0}}).batch({{"batch": 8, "lesions": {{"phantom": 0.5}}}}, rng)
views = [augment(sample, 64, rng, AugmentSettings(), 0.25) for sample in drawn]
print(hashlib.sha256(b"".join(view.pixels.numpy().tobytes() for view in views)).hexdigest())
print([question.phrase for question in questions(drawn, views, words)])
for which in {TRAINED}:
    folder, config = Path(sys.argv[1]) / which, Path(sys.argv[2])
    main(Which(which), out=folder, config=config, threads=1, device="cpu")
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipe's commands run in this process: what they set is put back."""
    monkeypatch.setattr(logging, "basicConfig", lambda **how: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe's file."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def runs(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], dict[str, str]]]:
    """Of two processes with other orders of sets: what was drawn, and the weights of each model."""
    found = []
    for hash_seed in (1, 2):
        out = tmp_path_factory.mktemp("alone")
        done = subprocess.run(
            [sys.executable, "-c", _DRAW_AND_TRAIN, str(out), str(config)],
            env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append((done.stdout.splitlines(), weights_in(out)))
    return found


def weights_in(folder: Path) -> dict[str, str]:
    """The hash of the weights of each model in a folder, by its name."""
    return {
        path.name: hashlib.sha256(next((path / "model").glob("*.safetensors")).read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


def test_what_is_drawn_does_not_depend_on_the_order_of_sets(runs: Any) -> None:
    (first, _), (second, _) = runs
    assert len(first) == 2
    assert first == second


def test_the_recipe_run_again_ends_with_the_same_bytes(runs: Any) -> None:
    (_, first), (_, second) = runs
    assert set(first) == set(TRAINED)
    assert first == second


def test_which_models_learn_from_the_same() -> None:
    recipe = {**TINY, "encoder": {**TINY["encoder"], "mix": {4: 1.0}}}
    groups = groups_of(recipe, (1, 2, 4), 0.5)
    names = [(*(run.name for run in group.runs), group.without) for group in groups]
    assert names == [
        *((f"encoder-{k}", f"second-{k}", (k,)) for k in (1, 2, 4)),
        *((f"third-{k}", (k,)) for k in (1, 2, 4)),
        ("segmenter-1-2", (1, 2)),
        ("segmenter-4", (4,)),
    ]
    first, second = (run.settings for run in groups[0].runs)
    assert first["phases"] == second["phases"] and first["loss"] != second["loss"]
    assert second["phases"][0]["steps"] == 2


@pytest.mark.usefixtures("here")
def test_side_by_side_they_end_as_they_do_alone(config: Path, runs: Any, tmp_path: Path) -> None:
    """On phantoms, which no fold holds out: every model's bytes; then, run again, nothing is left to do."""
    _, alone = runs[0]
    side_by_side(out=tmp_path, config=config, fold=[3], workers=1, device="cpu")
    found = weights_in(tmp_path)
    assert found == {
        "encoder-3": found["encoder-3"], "second-3": alone["second"], "third-3": alone["third"],
        "segmenter-3": alone["segmenter"],
    }  # fmt: skip
    assert len(set(found.values())) == 4
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")}
    side_by_side(out=tmp_path, config=config, fold=[3], workers=1, device="cpu")
    assert weights_in(tmp_path) == found
    assert len(before) == 4 and before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")}


@pytest.mark.usefixtures("here")
def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    broken = {**TINY, "second": {**TINY["second"], "clip": "none"}}
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(SystemExit, match="not trained: second-2; run the command again"):
        side_by_side(out=tmp_path / "several", config=tmp_path / "broken.yaml", fold=[2], device="cpu")


@pytest.mark.usefixtures("here")
def test_nothing_is_left_when_scans_cannot_be_read(config: Path, tmp_path: Path) -> None:
    from multiprocessing import active_children

    with pytest.raises(FileNotFoundError, match="none"):
        side_by_side(out=tmp_path / "several", config=config, data=tmp_path / "none", fold=[2], device="cpu")
    for child in active_children():
        child.join(30)
    assert not active_children()


def test_nothing_is_left_when_the_command_is_killed(tmp_path: Path) -> None:
    """By kill -9, while models are trained and batches made."""
    endless = [{**TINY["encoder"]["phases"][0], "steps": 10**6}]
    parts = {part: {**TINY[part], "phases": endless} for part in ("encoder", "second", "third")}
    (tmp_path / "endless.yaml").write_text(yaml.safe_dump({**TINY, **parts}))
    command = [sys.executable, "-m", "recipe.side_by_side", "--config", str(tmp_path / "endless.yaml")]
    command += ["--out", str(tmp_path / "several"), "--fold", "2", "--device", "cpu"]
    # Whoever holds the pipe's other end is alive; the last to end closes it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if b"third-2 from step 0 of 1000000" in line:
                break
        else:
            pytest.fail("it ended by itself")
        killed.kill()
        assert killed.wait(60) == -signal.SIGKILL
        reader = threading.Thread(target=killed.stdout.read, daemon=True)
        reader.start()
        reader.join(30)
        left = reader.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid, signal.SIGKILL)
    assert not left
