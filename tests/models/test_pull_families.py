"""Each layout from a hub: pulled, then used with the network unplugged; and a hub that wants terms accepted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clip_files
import numpy as np
import pytest
import sam2_files
import sam3_files
import torch
from stub_hub import StubHub, serve
from towers import KIN, make_kin_folder

from lexiseg.errors import DownloadFailed, UnknownModel
from lexiseg.models.loading import load_encoder, load_segmenter, load_text_segmenter
from lexiseg.models.weights.download import pull
from lexiseg.models.weights.status import list_models

SEGMENTERS = {
    "facebook/sam2.1-hiera-tiny": "Sam2Video",
    "yonigozlan/EdgeTAM-hf": "EdgeTam",
    "syscv-community/sam-hq-vit-base": "SamHQ",
    "facebook/sam3": "Sam3Tracker",
}
ENCODERS = {
    "flaviagiammarino/pubmed-clip-vit-base-patch32": "CLIP",
    "google/medsiglip-448": "Siglip",
    "google/siglip2-base-patch16-naflex": "Siglip2",
    "facebook/metaclip-b16-fullcc2.5b": "CLIP",
    "laion/CoCa-ViT-B-32-laion2B-s13B-b90k": "CoCa",
    "timm/ViT-B-16-SigLIP": "SigLIP",
}
TEXT_SEGMENTER = "nobody/sam3-whole"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    found = {repo: sam2_files.make_folder(root / kind, kind) for repo, kind in SEGMENTERS.items()}
    for repo, kind in ENCODERS.items():
        found[repo] = root / repo.replace("/", "--")
        if kind in KIN:
            make_kin_folder(found[repo], kind)
        else:
            clip_files.make_folder(found[repo], kind)
    return found | {TEXT_SEGMENTER: sam3_files.make_folder(root / "sam3", whole=True)}


@pytest.fixture
def hub(repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    with serve(dict(repositories)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


def unplug(hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.repositories.clear()
    hub.asked.clear()


@pytest.mark.parametrize("repo", SEGMENTERS)
def test_a_segmenter(hub: StubHub, repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch, repo: str) -> None:
    pull(repo)
    unplug(hub, monkeypatch)
    scan = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    box = np.array([[3, 4, 30, 30]], np.float32)
    answers = []
    for ref in (repo, str(repositories[repo])):
        segmenter = load_segmenter(ref, device="cpu", precision="float32")
        answers.append(segmenter.decode(segmenter.encode(scan), boxes=box).logits)
    assert torch.equal(*answers)
    assert not hub.asked
    row = next(row for row in list_models() if row.id == repo)
    assert (row.kind, row.state) == ("segmenter", "pulled")


@pytest.mark.parametrize("repo", ENCODERS)
def test_an_encoder(hub: StubHub, repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch, repo: str) -> None:
    pull(repo)
    unplug(hub, monkeypatch)
    named, folder = (load_encoder(ref, device="cpu", precision="float32") for ref in (repo, str(repositories[repo])))
    side = named.input_size
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert torch.equal(named.encode_image(pixels), folder.encode_image(pixels))
    assert torch.equal(named.encode_text(["left lung"]), folder.encode_text(["left lung"]))
    assert not hub.asked
    row = next(row for row in list_models() if row.id == repo)
    assert (row.kind, row.state) == ("encoder", "pulled")


def test_a_segmenter_that_reads(hub: StubHub, repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    load_text_segmenter(TEXT_SEGMENTER, device="cpu", precision="float32")  # pulls it
    unplug(hub, monkeypatch)
    scan = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    answers = []
    for ref in (TEXT_SEGMENTER, str(repositories[TEXT_SEGMENTER])):
        segmenter = load_text_segmenter(ref, device="cpu", precision="float32")
        answers.append(segmenter.find(scan, ["left lung"])[0].logits)
    assert torch.equal(*answers) and not hub.asked


class TestRefusals:
    def test_a_gated_one_says_where_to_ask(self, hub: StubHub) -> None:
        repo = "google/medsiglip-448"
        hub.gated.add(repo)
        with pytest.raises(DownloadFailed) as raised:
            pull(repo)
        said = str(raised.value)
        assert "\n" not in said
        assert f"{repo} is gated: accept its terms at {hub.address}/{repo}, set HF_TOKEN" in said
        assert next(row for row in list_models() if row.id == repo).gated

    def test_one_that_is_not_there(self, hub: StubHub) -> None:
        with pytest.raises(UnknownModel, match="has no model 'nobody/sam2'"):
            load_segmenter("nobody/sam2", device="cpu")

    def test_a_segmenter_where_an_encoder_is_wanted(self, hub: StubHub) -> None:
        with pytest.raises(UnknownModel, match="is not an encoder of open_clip or transformers") as raised:
            pull("facebook/sam2.1-hiera-tiny", kind="encoder")
        assert "\n" not in str(raised.value)
