"""What a phrase asks for, without how it asks: names as programs write them, slips of the pen, words of asking."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from string import ascii_lowercase

_LEAST, _MOST = 4, 24
"""Letters of a word that may be a slip; of shorter ones too many are near each other, and longer ones are none."""
_BEFORE = """
    please, kindly, hello, hi, hey, ok, now, just, also
    can you, could you, would you, will you, can we, can i, may i, i want, i want to, i would like, i would like to
    i'd like, i'd like to, i need, i need to, i'm looking for, we need, we want, help me, help me to, is it possible to
    see, get, have, know, find, locate, identify, detect, look for, search for, search
    mark, highlight, annotate, contour, delineate, outline, draw, trace, circle, paint, color, label, mask, segment
    extract, isolate, select, show, show me, give me, display, point to, point at, point out, box, crop, measure
    outline of, contour of, contours of, mask of, masks of, mask for, segmentation of, segmentation mask of
    delineation of, annotation of, label of, picture of, image of, area of, region of, roi, roi of, roi around, roi for
    region of interest, class, target, a, an, the, where is, where are, where's, what is, which is, which are
    is this, is that, are these, is there, are there, is there a way to, how big is, how large is, how big are
    which part of the scan is, which pixels are, which part is
    which, what about, how about, any, all, every, each, only, exactly, precisely, this, that, these, those, here is
"""
_AFTER = """
    please, thanks, thank you, for me, here, now, only, exactly, precisely, if any, if there is any, if there is one
    mask, masks, segmentation, contour, outline, label, annotation, delineation, roi, region of interest
    in this scan, in the scan, in this image, in the image, in this picture, in the picture, in this slice, in the slice
    on this scan, on the scan, on this image, on the image, on this picture, on the picture, on this slice, on the slice
    in this one, in this case, in this patient, of this patient, seen here, shown here
"""


def as_words(text: str) -> str:
    """A name as programs write it, in words; another phrase as it is.

    Examples:
        >>> as_words("WholeBrain"), as_words("left_kidney"), as_words("CT of the liver")
        ('Whole Brain', 'left kidney', 'CT of the liver')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text.replace("_", " "))


def without_frame(words: Sequence[str]) -> tuple[str, ...]:
    """Words without those of asking at either end, which speak of no target; all of them where nothing else is there.

    Args:
        words: of a phrase, as its key has them.

    Example:
        >>> without_frame("please contour the brain in this scan".split())
        ('brain',)
    """
    return _between_frames(words) or tuple(words)


def only_asks(words: Sequence[str]) -> bool:
    """Whether there are words of asking, and sides of nothing, alone.

    Example:
        >>> only_asks(["show", "me"]), only_asks(["left"]), only_asks(["left", "lung"])
        (True, True, False)
    """
    return {*_between_frames(words)} <= {"left", "right"}


def _between_frames(words: Sequence[str]) -> tuple[str, ...]:
    first, last = 0, len(words)
    while first < last:
        most = min(_LONGEST, last - first)
        before = max((n for n in range(most + 1) if tuple(words[first : first + n]) in _FRAMES[0]), default=0)
        after = max((n for n in range(most + 1) if tuple(words[last - n : last]) in _FRAMES[1]), default=0)
        if not before and not after:
            break
        first, last = (first + before, last) if before else (first, last - after)
    return tuple(words[first:last])


def _rows(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(each.split()) for each in re.split(r"[,\n]", text) if each.strip())


_FRAMES = _rows(_BEFORE), _rows(_AFTER)
_LONGEST = max(len(frame) for frames in _FRAMES for frame in frames)
_ASKING = frozenset(word for frames in _FRAMES for frame in frames for word in frame)


def spelt(words: Sequence[str], known: Collection[str], english: Collection[str]) -> tuple[str, ...]:
    """Words with slips of the pen mended: a letter too many, too few, another, or two changed about.

    Source of the rule: F. J. Damerau, A technique for computer detection and correction of spelling errors, 1964. A
    word is mended where it is none of English, nor of asking, and is one slip from one known word alone. The first and
    the last letter must be right, but for two changed about: slips at the ends are rare, and "cardia" is no "cardiac".

    Args:
        words: of a phrase, as its key has them.
        known: what a slip may be of.
        english: words that are none.

    Example:
        >>> spelt(["left", "haert"], {"heart", "hear"}, {"left"})
        ('left', 'heart')
    """
    return tuple(
        word if word in known or word in english or word in _ASKING else _mended(word, known) for word in words
    )


def _mended(word: str, known: Collection[str]) -> str:
    if not _LEAST <= len(word) <= _MOST or not word.isascii() or not word.isalpha():
        return word
    halves = [(word[:k], word[k:]) for k in range(len(word) + 1)]
    inner = halves[1:-1]
    slips = {a + b[1] + b[0] + b[2:] for a, b in halves if len(b) > 1}
    slips |= {a + b[1:] for a, b in inner if len(b) > 1}
    slips |= {a + c + b for a, b in inner for c in ascii_lowercase}
    slips |= {a + c + b[1:] for a, b in inner if len(b) > 1 for c in ascii_lowercase}
    found = [slip for slip in slips if slip in known]
    return found[0] if len(found) == 1 else word
