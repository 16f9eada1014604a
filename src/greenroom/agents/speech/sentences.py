"""Cuts streamed text into sentences, as early as the text allows, for synthesis sentence by sentence.

Where the text is cut depends on the text alone, never on the pieces in which it arrives: a place is decided once what follows
it is known, and not before. Nothing is lost but white space between sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["SentenceSplitter", "join", "speakable"]

_NEVER_LAST = frozenset(
    "mr mrs ms mx dr prof st mt ft gen col capt lt sgt sen rep rev gov pres vs fig vol approx dept est cf ca al eds eq pp tel "
    "hr fr nr bzw bspw evtl ggf inkl exkl vgl mme mlle sra srta".split()
)
"""Abbreviations that a name, a number or an explanation follows."""
_PERHAPS_LAST = frozenset("etc inc ltd co corp jr sr ave blvd rd a.m p.m am pm b.c a.d ph.d m.d usw".split())
"""Abbreviations that end a sentence when a capital letter follows."""
_NUMBERED = frozenset("no nos p art".split())
"""Abbreviations before a number, words otherwise."""
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")

_CLOSERS = "\"'”’»)\\]}*_~」』）】》〉"
_END = re.compile(rf"\n|[。！？｡।॥።។]+[!?…]*[{_CLOSERS}]*|[.!?…؟۔]+[{_CLOSERS}]*")
_HARD = frozenset("。！？｡।॥።។")
"""Marks that end a sentence without a space after them."""
_CLAUSE = re.compile(rf"[,;:–—][{_CLOSERS}]*(?=\s)|[，、；：]")
_OPENING = "([{\"'“‘«„*_~「『（【《"
LONGEST = 400
"""Characters after which a sentence is cut at a clause, or else between words: text without punctuation is spoken too."""
_AT_ONCE = 1_000


class SentenceSplitter:
    """Push text deltas, take whole sentences.

    The first sentence is cut at a clause when it is longer than `first_clause` characters, because the listener waits for
    it; later ones are cut at sentence ends only, which sounds better.
    """

    def __init__(self, *, min_length: int = 2, first_clause: int = 48) -> None:
        self._text = ""
        self._first = True
        self._min_length = min_length
        self._first_clause = first_clause

    def push(self, delta: str) -> list[str]:
        out: list[str] = []
        for start in range(0, len(delta), _AT_ONCE):
            self._text += delta[start : start + _AT_ONCE]
            out += self._take(final=False)
        return out

    def flush(self) -> list[str]:
        """What is left, when the text is over."""
        out = self._take(final=True)
        if rest := self._text.strip():
            out.append(rest)
        self._text, self._first = "", True
        return out

    def _take(self, *, final: bool) -> list[str]:
        out: list[str] = []
        self._text = self._text.lstrip()
        while (end := self._cut(final)) is not None:
            sentence, self._text = self._text[:end].strip(), self._text[end:].lstrip()
            if sentence:
                out.append(sentence)
                self._first = False
        return out

    def _cut(self, final: bool) -> int | None:
        """Where the first sentence ends; None when it does not, or when that cannot be said yet."""
        text, end, known = self._text, None, len(self._text)
        for match in _END.finditer(text):
            verdict = self._ends(match, final)
            if verdict is None:
                known = match.start()
                break
            if verdict and len(text[: match.end()].strip()) >= self._min_length:
                end = known = match.end()
                break
        # Up to `known` there is no end; what lies behind it does not matter here.
        if self._first and known > self._first_clause:
            for clause in _CLAUSE.finditer(text, self._first_clause // 2):
                if clause.end() < known:
                    return clause.end()
                break
        if known > LONGEST:
            return _breath(text[:LONGEST])
        return end

    def _ends(self, match: re.Match[str], final: bool) -> bool | None:
        """Whether a sentence ends with this mark; None when what follows must be seen first."""
        mark, text, end = match.group(), self._text, match.end()
        if mark == "\n":
            return True
        if end == len(text) and not final:
            return None
        if mark[0] in _HARD or end == len(text):
            return True
        if not text[end].isspace():
            return False
        closed = mark[-1] not in ".!?…؟۔"
        stops = mark.rstrip(_CLOSERS.replace("\\", ""))
        word = _word_before(text, match.start())
        if stops in ("!", "?", "؟", "۔") or ("." not in stops and "…" not in stops) or len(set(stops)) > 1:
            return True if not closed else self._capital(end, final)
        if stops != ".":
            return self._capital(end, final, otherwise=True)
        if word in _NEVER_LAST:
            return False
        if word in _PERHAPS_LAST:
            return self._capital(end, final)
        if word in _NUMBERED:
            following = self._following(end, final)
            return None if following is None else not following.isdigit()
        if _DOTTED.fullmatch(word) or (len(word) == 1 and word.isalpha() and word.isascii() and word not in "ai"):
            return False
        if word.isdigit() and not text[: match.start() - len(word)].strip(_OPENING + " "):
            # The number of an item in a list.
            return False
        return True if not closed else self._capital(end, final, otherwise=True)

    def _following(self, end: int, final: bool) -> str | None:
        """The first character of what follows, a line's end included; None when it has not arrived."""
        for character in self._text[end:]:
            if character == "\n" or not (character.isspace() or character in _OPENING):
                return character
        return "\n" if final else None

    def _capital(self, end: int, final: bool, *, otherwise: bool = False) -> bool | None:
        """Whether what follows begins as a sentence does. `otherwise`: what holds for scripts without capitals, for digits."""
        following = self._following(end, final)
        if following is None:
            return None
        if following == "\n" or following.isupper():
            return True
        return otherwise and not following.islower()


def _word_before(text: str, at: int) -> str:
    return re.split(r"[\s(\[{\"'“‘«„*_]", text[max(0, at - 40) : at])[-1].lower()


def _breath(text: str) -> int:
    """The best place to breathe in the second half of a text that is too long."""
    half = len(text) // 2
    for mark in (_CLAUSE, re.compile(r"\s")):
        if places := [match.end() for match in mark.finditer(text, half)]:
            return places[-1]
    return len(text)


def join(sentences: Iterable[str]) -> str:
    """Sentences as one text again: with spaces between them where their script has any."""
    out = ""
    for sentence in sentences:
        wide = out and sentence and all(unicodedata.east_asian_width(each) in "WF" for each in (out[-1], sentence[0]))
        out += sentence if wide or not out else f" {sentence}"
    return out


_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_LINE = re.compile(r"^\s*(?:#{1,6}\s+|>+\s+|[*+•-]\s+(?=\S))", re.MULTILINE)
_ROW = re.compile(r"^\s*\|(.*?)\|?\s*$", re.MULTILINE)
_EMPHASIS = re.compile(
    # Marks that cling to one side of a word only: `2*3`, `7 * 8` and `snake_case` have none.
    r"(?<!\S)[*_~-]{3,}(?!\S)|"
    r"(?<![\w*~])(?:[*_]|~~)+(?=[^\s*_~])|(?<=[^\s*_~])(?:[*_]|~~)+(?![\w*~])"
)
_CODE = re.compile(r"`+")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]+")


def speakable(text: str) -> str:
    """The text without what a voice cannot say: Markdown marks, link targets, emoji, control characters. Signs that mean
    something (`2*3`, `5 > 3`, `C#`, `~10`, `snake_case`) stay."""
    text = _LINK.sub(lambda match: match.group(1), text)
    text = _LINE.sub("", text)
    text = _ROW.sub(lambda match: match.group(1).replace("|", ","), text)
    text = _EMPHASIS.sub("", _CODE.sub("", text))
    text = _EMOJI.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
