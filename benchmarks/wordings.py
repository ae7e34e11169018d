"""What held-out phrases are read as, by the bundled sentence encoder, by an older text tower and by words alone.

    git archive 2c37e9a src/lexiseg/bundled | tar x -C DIR      # version 9, the last with a text tower of its own
    python benchmarks/wordings.py --older DIR/src/lexiseg/bundled/clip

Both text towers hear the same known wordings, vote by the same rule and call a phrase unknown by the same rule for the
threshold.  They read the same held-out phrases, of which a few are known to both in another spelling.  Words alone know
the library's wordings and `bundled/known_phrases.yaml`, and vote on nothing.  The table is that of
`recipe.words_to_places`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional

from common import made_with, progress, table_head, table_row
from lexiseg.models.encoders.open_clip_known import SAME
from lexiseg.models.loading import load_encoder
from lexiseg.text.known import Vocabulary, bundled_vocabulary
from recipe.text import sentence_embeddings
from recipe.wordings import Wording
from recipe.words_to_places import hear, held_out_wordings, known_wordings, shares

ROWS = {
    "target, family": "a target's wordings, whole families",
    "target, wording": "a target's wordings, single ones",
    "finding": "findings in a target's organ",
    "other": "other structures of the same scans",
    "elsewhere": "organs and findings elsewhere",
    "nonsense": "nonsense",
    "negation": "denials that words miss",
    "foreign": "other languages that words miss",
}
"""Kinds of held-out phrases -> how the table calls them."""
_BATCH = 256
Embed = Callable[[list[str]], Tensor]
Shares = Mapping[str, tuple[float, float, int]]


def by_sentences(encoder: Any) -> Embed:
    """A sentence encoder's own embeddings, before the projection to images: what the bundled encoder votes on."""
    return lambda texts: sentence_embeddings(encoder.model.text, encoder.tokenizer(texts))


def by_text_tower(encoder: Any) -> Embed:
    """What an encoder's text tower makes of phrases, among the embeddings of images.

    Raises:
        typer.BadParameter: the encoder votes itself, so that its embeddings are votes' results.
    """
    if encoder.judges_words:
        raise typer.BadParameter(f"{encoder.name} knows wordings of its own; expected an encoder without them")
    return lambda texts: torch.cat([encoder.encode_text(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)])


def vote(embed: Embed, known: Sequence[Wording], held_out: Sequence[Wording]) -> tuple[list[str | None], str]:
    """What each phrase is read as by its nearest known wordings, and a line on how near they are.

    The line says how many phrases are so near to one wording that it decides alone: that cosine was chosen for the
    sentence encoder, and an encoder that hears everything alike is above it often.
    """
    heard = hear(known, embed([w.text for w in known]))
    sentences = functional.normalize(embed([w.text for w in held_out]), dim=1)
    alone = float(((sentences @ heard.sentences.T).amax(1) >= SAME).float().mean())
    read_as = [heard.concept(each, w.text) for each, w in zip(sentences, held_out, strict=True)]
    return read_as, f"unknown below {heard.least:.3f}; one wording decides alone (from {SAME}) {alone:.1%} of phrases"


def by_words(vocabulary: Vocabulary, text: str, concepts: frozenset[str]) -> str | None:
    """What words alone take a phrase for: one of the concepts, "" for what they know besides, None for the rest."""
    if not vocabulary.knows(text):
        return None
    named = vocabulary.concept(text)
    return named if named in concepts else ""


def table(ways: Mapping[str, Shares]) -> str:
    """One row for each kind of phrase, and of each way the shares that are right and unknown, in per cent."""
    lines = [table_head(["held out", "of", *(f"{way}: right, unknown" for way in ways)])]
    for kind, name in ROWS.items():
        found = [way[kind] for way in ways.values()]
        cells = [f"{100 * right:.1f} %, {100 * unknown:.1f} %" for right, unknown, _ in found]
        lines.append(table_row([name, found[0][2], *cells]))
    return "\n".join(lines)


def main(
    *,
    older: Annotated[Path, typer.Option(help="the older encoder's folder", exists=True, file_okay=False)],
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
) -> None:
    """Print the table."""
    torch.set_num_threads(threads)
    known, held_out = known_wordings(), held_out_wordings()
    bundled, old = (load_encoder(str(each), device="cpu", precision="float32") for each in ("bundled", older))
    ways = {}
    print(made_with(f"{len(known)} known wordings, {len(held_out)} held-out phrases"))
    for name, embed in (("sentence encoder", by_sentences(bundled)), ("older text tower", by_text_tower(old))):
        progress.print(f"{name} reads")
        read_as, line = vote(embed, known, held_out)
        ways[name] = shares(held_out, read_as)
        print(f"{name}: {line}")
    vocabulary, concepts = bundled_vocabulary(), frozenset(w.target for w in known if w.kind == "target")
    ways["words alone"] = shares(held_out, [by_words(vocabulary, w.text, concepts) for w in held_out])
    print(f"\n{table(ways)}")


if __name__ == "__main__":
    typer.run(main)
