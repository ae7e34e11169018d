"""Started again, in another process, the recipe draws the same and ends with the same weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

_DRAW = """
import hashlib, random
import numpy as np
from recipe.augment import AugmentSettings, augment
from recipe.data import phantom_samples
from recipe.sampling import Sampler
from recipe.supervision import questions

samples = [s for s in phantom_samples(24, 64, 1) if s.organ in ("brain", "breast")]
rng, words = np.random.default_rng(0), random.Random(0)
drawn = Sampler(samples, {"phantom": 1.0}).batch({"batch": 8, "lesions": {"phantom": 0.5}}, rng)
views = [augment(sample, 64, rng, AugmentSettings(), 0.25) for sample in drawn]
print(hashlib.sha256(b"".join(view.pixels.numpy().tobytes() for view in views)).hexdigest())
print([question.phrase for question in questions(drawn, views, words)])
"""


def draw(hash_seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _DRAW],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_whatever_the_order_of_sets() -> None:
    first, *others = (draw(seed) for seed in (1, 2, 3))
    assert len(first.splitlines()) == 2
    assert others == [first, first]


TINY: dict[str, Any] = {
    "seed": 5, "fold": 0, "store_size": 64, "phantoms": 8,
    "encoder": {
        "mean": 0.25, "std": 0.25, "embed_dim": 16, "image_size": 64,
        "image_tower": "pyramid_efficientnet_lite0",
        "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "init_logit_scale": 2.3, "init_logit_bias": -4.0, "warmup": 1, "shares": {"phantom": 1.0},
        "words": {"steps": 2, "batch": 8, "lr": 1.0e-3}, "precision": "bf16-mixed",
        "slow": {"visual.trunk.backbone.blocks.0": 0, "visual.trunk.backbone": 0.3},
        "phases": [{"resolution": 64, "batch": 4, "steps": 4, "lr": 1.0e-3}],
        "loss": {"dense": 1.0, "dice": 1.0, "negative": 1.0, "close": 0.5, "presence": 0.6, "caption": 0.15},
        "weight_decay": 0.05, "clip": 1.0, "ema": 0.9,
    },
    "segmenter": {
        "image_size": 64, "image_tower": "pyramid_tiny_vit_5m_stem", "stride": 8, "channels": 16,
        "batch": 2, "prompts": 2, "warmup": 1, "slow": {"vision_encoder.tower.backbone.stages_0": 0},
        "precision": "bf16-mixed", "phases": [{"steps": 4, "lr": 1.0e-3, "lesions": 0.5}],
        "shares": {"phantom": 1.0},
        "weight_decay": 0.05, "clip": 1.0, "ema": 0.9,
    },
}  # fmt: skip
TINY["second"] = {**TINY["encoder"], "loss": {**TINY["encoder"]["loss"], "negative": 0.5}}
TINY["third"] = {**TINY["second"], "phases": [{**TINY["encoder"]["phases"][0], "steps": 2}]}
WEIGHTS = {"encoder": "open_clip_model.safetensors", "segmenter": "model.safetensors"}


def run(module: str, *arguments: str, hash_seed: int = 0) -> None:
    """A command of the recipe, on the CPU."""
    done = subprocess.run(
        [sys.executable, "-m", f"recipe.{module}", *arguments, "--device", "cpu"],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The tiny recipe's file."""
    pytest.importorskip("lightning", reason="the recipe trains with lightning: pip install 'lexiseg[train]'")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return str(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("which", WEIGHTS)
def test_the_recipe_run_again_ends_with_the_same_bytes(which: str, config: str, tmp_path: Path) -> None:
    found = set()
    for hash_seed in (1, 2):
        out = tmp_path / str(hash_seed)
        run("train", which, "--config", config, "--out", str(out), "--threads", "1", hash_seed=hash_seed)
        found.add(sha256(out / "model" / WEIGHTS[which]))
    assert len(found) == 1


def test_side_by_side_they_end_as_they_do_alone(config: str, tmp_path: Path) -> None:
    """On phantoms, which no fold holds out: every model's bytes; then, run again, nothing is left to do."""
    several = ("side_by_side", "--config", config, "--out", str(tmp_path / "several"))
    folds = ("--fold", "0", "--fold", "3", "--workers", "1")
    run(*several, *folds)
    made = {path.name: path / "model" for path in (tmp_path / "several").iterdir()}
    encoders = {f"{part}-{k}" for part in ("encoder", "second", "third") for k in (0, 3)}
    assert made.keys() == {*encoders, "segmenter-0-3"}
    for which in ("second", "third", "segmenter"):
        run("train", which, "--config", config, "--out", str(tmp_path / which), "--threads", "1")
    weights = {name: sha256(next(made[name].glob("*.safetensors"))) for name in made}
    for part in ("second", "third"):
        alone = sha256(tmp_path / part / "model" / WEIGHTS["encoder"])
        assert weights[f"{part}-0"] == weights[f"{part}-3"] == alone
    assert weights["segmenter-0-3"] == sha256(tmp_path / "segmenter/model" / WEIGHTS["segmenter"])
    assert weights["encoder-0"] == weights["encoder-3"]
    assert len({weights[f"{part}-0"] for part in ("encoder", "second", "third")}) == 3
    run(*several, *folds)
    assert weights == {name: sha256(next(made[name].glob("*.safetensors"))) for name in made}


def test_one_that_fails_ends_the_others(tmp_path: Path, config: str) -> None:
    broken = {**TINY, "second": {**TINY["second"], "clip": "none"}}
    Path(config).write_text(yaml.safe_dump(broken))
    with pytest.raises(AssertionError, match="not trained: second-2; run the command again"):
        run("side_by_side", "--config", config, "--out", str(tmp_path / "several"), "--fold", "2")


def test_nothing_is_left_when_the_command_is_killed(tmp_path: Path, config: str) -> None:
    """Not of scans that cannot be read, nor after a kill -9."""
    endless = {**TINY["second"], "words": {**TINY["second"]["words"], "steps": 10**6}}
    Path(config).write_text(yaml.safe_dump({**TINY, "encoder": endless, "second": endless, "third": endless}))
    command = [sys.executable, "-m", "recipe.side_by_side", "--config", config, "--device", "cpu"]
    command += ["--out", str(tmp_path / "several"), "--fold", "2"]
    # Whoever holds the pipe's other end is alive; the last to end closes it.
    nothing = subprocess.run(
        [*command, "--data", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=120
    )
    assert nothing.returncode and "none" in nothing.stderr
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if b"words: step 200" in line:
                break
        killed.kill()
        assert killed.wait(60) == -signal.SIGKILL
        reader = threading.Thread(target=killed.stdout.read, daemon=True)
        reader.start()
        reader.join(30)
        left = reader.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid, signal.SIGKILL)
    assert not left
