"""Partial texts that do not flicker: what two decodings in a row agree on, and never more than one word taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Agreement", "agreeing"]

MAX_RETRACTED = 1


def _same(word: str) -> str:
    """A word without what changes while a sentence grows: capitals and punctuation."""
    return re.sub(r"[^\w']+", "", word.lower()) or word


def agreeing(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if _same(left) != _same(right):
            break
        count += 1
    return count


class Agreement:
    """The shown text of one utterance."""

    def __init__(self) -> None:
        self._before: list[str] = []
        self._shown: list[str] = []

    def update(self, text: str) -> str | None:
        """A new decoding of what there is so far. Returns the text to show when it changed."""
        words = text.split()
        agreed = words[: agreeing(words, self._before)]
        self._before = words
        if agreed:
            # The model ends unfinished text with a full stop.
            agreed[-1] = agreed[-1].rstrip(".,!?…") or agreed[-1]
        if len(agreed) < len(self._shown):
            return None
        return self._show(agreed)

    def prepared(self, text: str) -> str | None:
        """The text of a pause, which may be all: shown whole, and again when it was shown before. None when it takes back too
        much: the final text will say it."""
        words = text.split()
        self._before = words
        if words == self._shown:
            return text or None
        return self._show(words)

    def _show(self, words: list[str]) -> str | None:
        if words == self._shown or not words or agreeing(words, self._shown) < len(self._shown) - MAX_RETRACTED:
            return None
        self._shown = words
        return " ".join(words)
