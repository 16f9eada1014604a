"""Cuts streamed text into sentences, as early as the text allows, for synthesis sentence by sentence."""

from __future__ import annotations

import re

__all__ = ["SentenceSplitter", "speakable"]

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e a.m p.m inc ltd vol fig approx dept est u.s u.k".split()
)
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|\n+|[。！？]")
_CLOSING = " .!?…\"')]”’\n"
_CLAUSE = re.compile(r"[,;:–—](?=\s)")


class SentenceSplitter:
    """Push text deltas, take whole sentences.

    While the end of the first sentence is not in sight, it may be cut at a clause once it is `first_clause` characters long,
    because the listener waits for it; later ones are cut at sentence ends only, which sounds better.
    """

    def __init__(self, *, min_length: int = 2, first_clause: int = 48) -> None:
        self._text = ""
        self._first = True
        self._min_length = min_length
        self._first_clause = first_clause

    def push(self, delta: str) -> list[str]:
        # Marks that belong to a sentence already given out ("?!", a closing quote) are not the start of the next one.
        self._text = self._text + delta if self._text else delta.lstrip(_CLOSING if not self._first else "")
        out: list[str] = []
        while (end := self._cut()) is not None:
            sentence, self._text = self._text[:end].strip(), self._text[end:].lstrip()
            if sentence:
                out.append(sentence)
                self._first = False
        return out

    def flush(self) -> list[str]:
        """What is left, when the text is over."""
        rest, self._text = self._text.strip(), ""
        self._first = True
        return [rest] if rest else []

    def _cut(self) -> int | None:
        for match in _END.finditer(self._text):
            end = match.end()
            # A full stop at the very end may be the first half of "3.14" or "a.m."; anything else there is final.
            if end == len(self._text) and match.group().startswith(".") and self._ambiguous(match.start()):
                return None
            if match.group() == "." and self._abbreviation(match.start()):
                continue
            if len(self._text[:end].strip()) >= self._min_length:
                return end
        if self._first and len(self._text) > self._first_clause:
            for match in _CLAUSE.finditer(self._text):
                if match.start() >= self._first_clause // 2:
                    return match.end()
        return None

    def _word_before(self, dot: int) -> str:
        return re.split(r"[\s(\[\"']", self._text[:dot])[-1].lower()

    def _abbreviation(self, dot: int) -> bool:
        word = self._word_before(dot)
        return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word not in "ai")

    def _ambiguous(self, dot: int) -> bool:
        word = self._word_before(dot)
        return not word or word[-1].isdigit() or word in _ABBREVIATIONS or len(word) == 1


_MARKDOWN = re.compile(r"[*_`#>|~]+|!?\[([^\]]*)\]\([^)]*\)")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]+")


def speakable(text: str) -> str:
    """The text without what a voice cannot say: Markdown marks, link targets, emoji, control characters."""
    text = _MARKDOWN.sub(lambda match: match.group(1) or "", text)
    text = _EMOJI.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
