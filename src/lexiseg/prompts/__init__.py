"""Phrases: what a person types becomes a `PhraseSet` (the phrase's wordings and the null phrases it is
weighed against).

Targets, their synonyms, templates and null phrases are data, one YAML file each beside this one; a phrase
that no file knows still works with the generic templates.  `embed_phrases` turns the sets into vectors, all
of them in one call of the encoder's text tower.
"""

from lexiseg.prompts.embedding import PhraseEmbedding, embed_phrases
from lexiseg.prompts.library import PhraseLibrary, Target, default_library, load_library
from lexiseg.prompts.phrases import PhraseSet, check_phrase, phrase_set

__all__ = [
    "PhraseEmbedding",
    "PhraseLibrary",
    "PhraseSet",
    "Target",
    "check_phrase",
    "default_library",
    "embed_phrases",
    "load_library",
    "phrase_set",
]
