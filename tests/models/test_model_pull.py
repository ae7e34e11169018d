"""Pulling from a hub on loopback, with every kind of accident, and loading with the network unplugged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import BERT_REPO, BIOMEDCLIP_REPO, make_bert_config, make_biomedclip_folder
from stub_hub import COMMIT, StubHub, serve

from lexiseg.errors import DownloadFailed, UnknownModel, UsageError
from lexiseg.models.loading import load_encoder, load_segmenter
from lexiseg.models.weights.download import pull
from lexiseg.models.weights.records import read_record
from lexiseg.models.weights.status import check_model, list_models

SAM_REPO = "facebook/sam-vit-base"
WEIGHTS = "open_clip_pytorch_model.bin"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    encoder = make_biomedclip_folder(root / "biomedclip", size="tiny", pulled=False)
    (encoder / "README.md").write_text("---\nlicense: mit\n---\n")
    (encoder / "biomed-vlp-eval.png").write_bytes(b"a picture that nobody needs")
    return {BIOMEDCLIP_REPO: encoder, BERT_REPO: make_bert_config(root / "bert", size="tiny")}


@pytest.fixture
def hub(repositories: dict[str, Path], sam: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    # The hub's client waits seconds between its retries of a server that answers 500.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
    with serve({**repositories, SAM_REPO: sam}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


def unplug(hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.asked.clear()
    hub.repositories.clear()


class TestPull:
    def test_biomedclip_works_unplugged_and_moved(
        self, hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        folder = pull(BIOMEDCLIP_REPO, out=tmp_path / "model")
        assert not (folder / "biomed-vlp-eval.png").exists()
        unplug(hub, monkeypatch)
        request.getfixturevalue("unplugged")
        moved = Path(shutil.move(folder, tmp_path / "moved"))
        encoder = load_encoder(str(moved), device="cpu")
        assert encoder.encode_text(["breast tumor"]).shape == (1, 32)
        assert hub.asked == []

    def test_the_record_says_where_it_comes_from(self, hub: StubHub, tmp_path: Path) -> None:
        folder = pull(f"hf-hub:{BIOMEDCLIP_REPO}", out=tmp_path / "model")
        record = read_record(folder)
        assert record is not None
        assert (record.repo, record.revision, record.licence) == (BIOMEDCLIP_REPO, COMMIT, "mit")
        assert record.sources == {BERT_REPO: COMMIT}
        assert {WEIGHTS, "open_clip_config.json", "text_tower/config.json", "vocab.txt"} <= set(record.files)
        assert not list(tmp_path.glob(".*"))
        text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
        assert not Path(text["hf_model_name"]).is_absolute()
        assert check_model(str(folder)).ok

    def test_a_pulled_model_is_found_by_its_name(self, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = pull(BIOMEDCLIP_REPO)
        unplug(hub, monkeypatch)
        encoder = load_encoder(f"hf-hub:{BIOMEDCLIP_REPO}", device="cpu")
        assert encoder.weights is not None
        assert (encoder.weights.repo, encoder.weights.revision) == (BIOMEDCLIP_REPO, COMMIT)
        assert encoder.weights.path == folder / WEIGHTS
        row = next(row for row in list_models() if row.id == BIOMEDCLIP_REPO)
        assert (row.state, row.revision, row.sha256) == ("pulled", COMMIT, encoder.weights.sha256)

    def test_loading_by_name_pulls(self, hub: StubHub, sam: Path) -> None:
        progress: list[tuple[str, int, int]] = []
        named = load_segmenter(SAM_REPO, device="cpu", progress=lambda *step: progress.append(step))
        assert progress[-1][0] == "model.safetensors"
        assert all(done == total > 0 for _, done, total in progress)
        scan = np.random.default_rng(0).random((64, 80), dtype=np.float32)
        expected = load_segmenter(str(sam), device="cpu").encode(scan).embedding
        assert torch.equal(named.encode(scan).embedding, expected)
        asked = len(hub.asked)
        load_segmenter(SAM_REPO, device="cpu")
        assert len(hub.asked) == asked

    def test_pulling_again_is_harmless(self, hub: StubHub, tmp_path: Path) -> None:
        first = pull(SAM_REPO, out=tmp_path / "sam")
        assert pull(SAM_REPO, out=tmp_path / "sam") == first
        assert check_model(str(first)).ok

    def test_a_folder_of_the_users_is_left_alone(self, hub: StubHub, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(UsageError, match="was not made by a pull"):
            pull(SAM_REPO, out=tmp_path)
        assert (tmp_path / "notes.txt").read_text() == "mine"


class TestAccidents:
    @pytest.mark.parametrize("fault", ["refuse", "cut", "corrupt"])
    def test_one_line_and_nothing_half_written(self, hub: StubHub, tmp_path: Path, fault: str) -> None:
        getattr(hub, fault).add(WEIGHTS)
        with pytest.raises(DownloadFailed) as error:
            pull(BIOMEDCLIP_REPO, out=tmp_path / "model")
        assert "\n" not in str(error.value)
        assert "lexiseg models pull" in str(error.value)
        assert not (tmp_path / "model").exists()
        assert not list(tmp_path.rglob(WEIGHTS))
        getattr(hub, fault).clear()
        hub.asked.clear()
        folder = pull(BIOMEDCLIP_REPO, out=tmp_path / "model")
        assert check_model(str(folder)).ok
        assert not any(path.endswith("/vocab.txt") for path in hub.asked), "what was whole is fetched again"

    def test_the_text_tower_is_missing(self, hub: StubHub, tmp_path: Path) -> None:
        del hub.repositories[BERT_REPO]
        with pytest.raises(DownloadFailed, match="text tower"):
            pull(BIOMEDCLIP_REPO, out=tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_no_such_repository(self, hub: StubHub, tmp_path: Path) -> None:
        with pytest.raises(UnknownModel, match="nobody/nothing"):
            pull("nobody/nothing", out=tmp_path / "model")

    def test_a_repository_of_another_kind(self, hub: StubHub, tmp_path: Path) -> None:
        with pytest.raises(UnknownModel, match="is not an encoder of open_clip or transformers"):
            pull(BERT_REPO, out=tmp_path / "model")

    def test_no_server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
        with pytest.raises(DownloadFailed, match="could not be downloaded"):
            pull(SAM_REPO, out=tmp_path / "model", endpoint="http://127.0.0.1:9")

    def test_offline_says_which_command_to_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(DownloadFailed, match=f"lexiseg models pull {SAM_REPO}"):
            load_segmenter(SAM_REPO, device="cpu")
        with pytest.raises(DownloadFailed, match=f"lexiseg models pull {BIOMEDCLIP_REPO}"):
            load_encoder(f"hf-hub:{BIOMEDCLIP_REPO}", device="cpu")
        with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
            pull(SAM_REPO)


class TestHubCache:
    """Models that other programs have fetched already, in HF_HOME."""

    def _cache(self, repo: str, source: Path, home: Path) -> None:
        stored = home / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
        (stored / "refs").mkdir(parents=True)
        (stored / "refs" / "main").write_text(COMMIT)
        shutil.copytree(source, stored / "snapshots" / COMMIT)

    def test_a_plain_download_loads_if_its_text_tower_is_cached_too(
        self, repositories: dict[str, Path], own_home: Path, unplugged: None
    ) -> None:
        for repo, source in repositories.items():
            self._cache(repo, source, own_home)
        encoder = load_encoder(BIOMEDCLIP_REPO, device="cpu", offline=True)
        assert encoder.encode_text(["left lung"]).shape == (1, 32)
        row = next(row for row in list_models() if row.id == BIOMEDCLIP_REPO)
        assert (row.state, row.revision) == ("hub cache", COMMIT)

    def test_a_plain_download_without_its_text_tower_says_what_to_do(
        self, repositories: dict[str, Path], own_home: Path, unplugged: None
    ) -> None:
        self._cache(BIOMEDCLIP_REPO, repositories[BIOMEDCLIP_REPO], own_home)
        with pytest.raises(DownloadFailed, match="lexiseg models pull"):
            load_encoder(BIOMEDCLIP_REPO, device="cpu", offline=True)
