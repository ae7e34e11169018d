"""Give a trained image tower its words: ``python -m recipe.words_to_places --concepts DIR --minilm DIR --out DIR``.

`recipe.train next` leaves an image tower and the places of its concepts, without words.  Here a projection of a
frozen sentence encoder learns to bring every wording of a concept to its place, and all that names none to nothing's.
It costs minutes, so that new wordings need no new image tower.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lexiseg.files import sha256_of
from lexiseg.models.encoders.open_clip_folder import CONFIG_NAME, build_tokenizer
from lexiseg.models.encoders.open_clip_known import FILE as KNOWN
from lexiseg.models.encoders.open_clip_known import KnownWordings, pack_known, read_known
from lexiseg.models.families import ModelFiles
from lexiseg.models.weights.records import write_record
from lexiseg.saliency.kinds import HOLDS
from lexiseg.saliency.kinds import WEIGHTS as GATE
from lexiseg.text.denials import is_denial, is_foreign
from recipe.concept_towers import older_tower, read_concepts, side_by_side
from recipe.concepts import SYNONYMS
from recipe.export import LICENCE
from recipe.sets import KIND, load_sets
from recipe.text import (
    TextSettings,
    build_tower,
    check_minilm,
    learn_projection,
    sentence_embeddings,
    small_state,
    small_text,
    text_config,
    write_text_tower_files,
)
from recipe.wordings import Target, Wording, bare_key, load_frames, load_others, load_targets
from recipe.wordings.phrases import NOTHING, Phrases, PhraseSettings, held_out_keys, training_phrases
from recipe.wordings.unknown import choose_threshold, nearest_of_other_families

logger = logging.getLogger(__name__)

REVISION = "12"
WEIGHTS = "open_clip_model.safetensors"
FEWER = PhraseSettings(frames=5, denials=5, typos=2)
"""Some fifty targets are known now: fewer phrases of each do."""
SIDES = {"left lung": "lungs", "right lung": "lungs", "left kidney": "kidneys", "right kidney": "kidneys"}
"""One side -> the pair."""
FALSE_UNKNOWN = 0.07
"""The share of known wordings that may be called unknown, were their own family held out."""
TAUGHT_SINCE = frozenset({
    "kidney", "spine", "lumbar vertebra", "retina", "tooth", "cell nuclei", "colon polyp", "skin melanoma",
    "skin cancer", "thyroid cancer", "kidney cancer", "renal tumor", "lung infection", "heart muscle",
    "cardiac muscle", "blood vessels of the retina", "left ventricle of the heart on MRI",
})  # fmt: skip
"""What the four older sets' recipe calls organs and findings elsewhere, and a set shows now, in another wording."""
_TAUGHT_KEYS = frozenset(map(bare_key, TAUGHT_SINCE))
_ORGANS_NOW = ("thyroid", "skin", "kidney")


def all_known(targets: Sequence[Target]) -> list[Target]:
    """The targets, each with a place of its own, but those that another stands for."""
    return [target if target.lands_on else replace(target, known=True) for target in targets]


def phrases_of_places(names: Sequence[str], *, settings: PhraseSettings, seed: int) -> Phrases:
    """Every phrase that the projection learns from, with the concept on whose place it lands.

    Args:
        names: concepts that have a place; targets without one are an error.
        settings: how many phrases.
        seed: of every draw.

    Raises:
        ValueError: a wording's target has no place.
    """
    targets, others, frames = all_known(load_targets()), load_others(), load_frames()
    drawn = training_phrases(targets, others, frames, settings=settings, seed=seed)
    if strange := set(drawn.labels) - {*names, NOTHING}:
        raise ValueError(f"{sorted(strange)} have wordings and no place; expected one of the tower's concepts")
    named = {bare_key(w.text) for t in targets for w in t.wordings if w.kind == "target"}
    found = Phrases()
    for text, label in zip(drawn.texts, drawn.labels, strict=True):
        if label != NOTHING or not names_something(text, named):
            found.add(text, label, without=frozenset())
    held_out = held_out_keys(targets, others)
    kinds, _ = load_sets()
    for kind in kinds.values():
        for said in kind.says:
            for frame in frames.plain:
                found.add(frame.format(said), KIND + kind.name, without=held_out)
    return found


def names_something(text: str, named: set[str]) -> bool:
    """Whether a phrase that was drawn as nothing names a concept by now."""
    key = bare_key(text)
    words = key.split()
    findings = ("tumor", "cancer", "lesion", "mass", "carcinoma", "cyst", "nodule", "metastasis")
    of_organ = any(organ in words for organ in _ORGANS_NOW) and any(finding in words for finding in findings)
    short = len(words) <= 5
    return key in named or key in _TAUGHT_KEYS or (of_organ and short)


def embedded(texts: Sequence[str], tower: Any, tokenizer: Any, cache: Path) -> Tensor:
    """Sentence embeddings (N, width), those of former runs from a file beside the new folder.

    The file holds texts of the recipe's own making, nothing of a scan.
    """
    known: dict[str, Tensor] = {}
    if cache.is_file():
        kept = torch.load(cache, weights_only=True)
        known = dict(zip(kept["texts"], kept["sentences"], strict=True))
    new = [text for text in dict.fromkeys(texts) if text not in known]
    logger.info("%d phrases, %d of them new", len(texts), len(new))
    for start in range(0, len(new), 2000):
        part = new[start : start + 2000]
        known.update(zip(part, sentence_embeddings(tower, tokenizer(part)), strict=True))
        torch.save({"texts": list(known), "sentences": torch.stack(list(known.values()))}, cache)
        logger.info("%d of %d", min(start + 2000, len(new)), len(new))
    return torch.stack([known[text] for text in texts])


def train(
    concepts: Sequence[Path],
    minilm: Path,
    folder: Path,
    *,
    settings: TextSettings,
    phrase_settings: PhraseSettings,
    seed: int,
    older: Sequence[int] = (),
    encoder: str = "bundled",
    architecture: str = "",
) -> None:
    """All of it: from trained image towers and the sentence encoder to an open_clip folder.

    Args:
        concepts: folders that `recipe.train next` exported.
        minilm: the sentence encoder.
        folder: for the encoder.
        settings: of the projection's course.
        phrase_settings: how many phrases.
        seed: of every draw.
        older: which of another encoder's towers stand beside those; they answer for what they know.
        encoder: that other encoder.
        architecture: of more than one tower, their ensemble's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    towers = [read_concepts(each) for each in concepts]
    towers += [older_tower(number, towers[0].names, encoder) for number in older]
    joined = side_by_side(towers, architecture)
    names, state, about = joined.names, joined.state, joined.config
    config = text_config(about, context_length=settings.context_length)
    write_text_tower_files(minilm, folder)
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    torch.manual_seed(seed)
    tower = build_tower(folder, minilm, config)
    tokenizer = build_tokenizer(ModelFiles(str(folder), folder, offline=True))
    phrases = phrases_of_places(names, settings=phrase_settings, seed=seed)
    sentences = embedded(phrases.texts, tower, tokenizer, folder.parent / "sentences.pt")
    numbers = {name: number for number, name in enumerate(names)}
    tower.proj.requires_grad_(True)
    learn_projection(
        tower.proj,
        sentences,
        torch.tensor([numbers[label] for label in phrases.labels]),
        functional.normalize(state["places"].float(), dim=1),
        scale=float(state["logit_scale"].exp()),
        bias=float(state["logit_bias"]),
        settings=settings,
        seed=seed,
    )
    write_weights(folder, state, tower, config)
    write_kinds(folder, names, state)
    rows = functional.normalize(state["places"].float(), dim=1)
    drawn = {name: row for name, row in zip(names, rows, strict=True) if not name.startswith(KIND)}
    write_known(folder, tower, tokenizer, folder.parent / "sentences.pt", drawn)
    write_record(folder, revision=REVISION, licence=LICENCE)


def known_wordings() -> list[Wording]:
    """What the text tower was taught and can be asked: targets, and organs and findings that it stays silent about.

    Negations are words' business (`lexiseg.text.denials`); nonsense is what shall be unknown; what is held out of
    training is not among them.
    """
    targets = all_known(load_targets())
    wordings = [w for target in targets for w in target.wordings] + list(load_others())
    asked = [w for w in wordings if w.kind in ("target", "other", "elsewhere", "finding") and not w.held_out]
    listed = {bare_key(w.text) for w in asked}
    synonyms = [
        Wording(text=text, kind="target", target=concept, family=f"synonyms of {concept}")
        for concept, texts in SYNONYMS.items()
        for text in texts
        if bare_key(text) not in listed
    ]
    return asked + synonyms


def write_known(folder: Path, tower: Any, tokenizer: Any, cache: Path, places: Mapping[str, Tensor]) -> None:
    """Which wordings the text tower knows, and from how near a phrase is one of them (`recipe.wordings.unknown`).

    Args:
        folder: the encoder's.
        tower: the sentence encoder.
        tokenizer: of phrases.
        cache: as for `embedded`.
        places: concept -> where it lies.
    """
    wordings = known_wordings()
    sentences = embedded([w.text for w in wordings], tower, tokenizer, cache)
    heard = hear(wordings, sentences, places)
    tensors, about = pack_known(sentences, heard.concepts, least=heard.least, sides=heard.sides, places=heard.places)
    save_file(tensors, folder / KNOWN, metadata=about)
    logger.info("%d known wordings; a phrase is unknown below %.3f", len(wordings), heard.least)
    known = read_known(folder)
    assert known is not None
    held_out = held_out_wordings()
    sentences = embedded([w.text for w in held_out], tower, tokenizer, cache)
    read_as = [known.concept(sentence, w.text) for sentence, w in zip(sentences, held_out, strict=True)]
    for kind, (right, unknown, count) in shares(held_out, read_as).items():
        logger.info("held out, %s: %.1f %% right, %.1f %% unknown, of %d", kind, 100 * right, 100 * unknown, count)


def hear(wordings: Sequence[Wording], sentences: Tensor, places: Mapping[str, Tensor] | None = None) -> KnownWordings:
    """The known wordings as a sentence encoder hears them, and from how near a phrase is one of them.

    Args:
        wordings: K of them (`known_wordings`).
        sentences: (K, width), what the encoder makes of each.
        places: concept -> where it lies.
    """
    lands = {target.name: target.lands for target in all_known(load_targets())}
    families = [f"{w.target} {w.family}" for w in wordings]
    least = choose_threshold(nearest_of_other_families(sentences, families), false_unknown=FALSE_UNKNOWN)
    concepts = tuple(lands.get(w.target, w.target) if w.kind == "target" else "" for w in wordings)
    sides = {side: pair for side, pair in SIDES.items() if side in concepts and pair in concepts}
    return KnownWordings(functional.normalize(sentences, dim=1), concepts, least, sides=sides, places=places or {})


def held_out_wordings() -> list[Wording]:
    """What no training saw, but denials and other languages, which words decide before anybody listens.

    A phrase that is known all the same, under another target or as one of the recipe's synonyms, is none of them.
    """
    wordings = [w for target in all_known(load_targets()) for w in target.wordings] + list(load_others())
    known = {bare_key(w.text) for w in known_wordings()}
    held_out = [w for w in wordings if w.held_out and bare_key(w.text) not in known]
    return [w for w in held_out if not is_denial(w.text) and not is_foreign(w.text)]


def shares(held_out: Sequence[Wording], read_as: Sequence[str | None]) -> dict[str, tuple[float, float, int]]:
    """What held-out phrases are read as, by kind: the share that is right, the share unknown, and of how many.

    Right is a target's wording that names the target, and any other that names none, whether it is known or not.

    Args:
        held_out: the phrases.
        read_as: what each was read as: a concept, "" for what is known and is none, None for what is unknown.
    """
    lands = {target.name: target.lands for target in all_known(load_targets())}
    tally: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for wording, named in zip(held_out, read_as, strict=True):
        target = wording.kind == "target"
        right = named == lands.get(wording.target, wording.target) if target else not named
        tally[f"target, {wording.held_out}" if target else wording.kind].append((right, named is None))
    return {
        kind: (float(np.mean([r for r, _ in found])), float(np.mean([u for _, u in found])), len(found))
        for kind, found in sorted(tally.items())
    }


def write_kinds(folder: Path, names: Sequence[str], state: Mapping[str, Tensor]) -> None:
    r"""Which kinds of scan the tower tells apart, and what each can hold.

    A kind has a place as a concept has, so that the logits are :math:`s\, e^\top p_k` with the encoder's own scale
    :math:`s`.
    """
    kinds, _ = load_sets()
    rows = [names.index(KIND + kind) for kind in kinds]
    places = functional.normalize(state["places"].float(), dim=1)[rows]
    tensors = {
        "weights": (state["logit_scale"].float().exp() * places).half().contiguous(),
        "biases": torch.zeros(len(rows)).half(),
    }
    about = {"format": "pt", "kinds": ";".join(kinds), "encoder": sha256_of(folder / WEIGHTS)}
    save_file(tensors, folder / GATE, metadata=about)
    concepts = sorted({concept for kind in kinds.values() for concept in kind.may})
    holds = {concept: [name for name, kind in kinds.items() if concept in kind.may] for concept in concepts}
    (folder / HOLDS).write_text(yaml.safe_dump({"holds": holds}, width=110, default_flow_style=None))


def write_weights(folder: Path, state: Mapping[str, Tensor], tower: Any, config: Mapping[str, Any]) -> None:
    """The open_clip folder's own files: image tower in 8 bits, scale, bias, and the text tower in 8 bits."""
    kept = {f"text.{name}": array for name, array in small_text(tower).items()}
    kept |= small_state({name: array for name, array in state.items() if name.startswith(("visual.", "logit_"))})
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")


def main(
    *,
    concepts: Annotated[
        list[Path], typer.Option(help="folder that `recipe.train next` exported; twice for two towers")
    ],
    minilm: Annotated[Path, typer.Option(help="folder of all-MiniLM-L6-v2: config, tokenizer, model.safetensors")],
    out: Annotated[Path, typer.Option(help="folder for the encoder; sentences.pt is kept beside it")],
    older: Annotated[
        list[int] | None, typer.Option(help="one of another encoder's towers, beside; counted from 0; repeatable")
    ] = None,
    encoder: Annotated[str, typer.Option(help="the other encoder's folder")] = "bundled",
    tower: Annotated[str, typer.Option(help="of several, their ensemble's name")] = "fpn_lite2_tiny_vit_5m",
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    seed: Annotated[int, typer.Option(help="of every draw")] = 20261128,
) -> None:
    """Bring phrases to the places of an image tower's concepts, and write the encoder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    check_minilm(minilm)
    train(
        concepts,
        minilm,
        out,
        settings=TextSettings(),
        phrase_settings=FEWER,
        seed=seed,
        older=older or (),
        encoder=encoder,
        architecture=tower,
    )


if __name__ == "__main__":
    typer.run(main)
