"""A sentence as clauses with the marks between them, and clauses as pieces that are spoken one after the other.

The programme that makes phonemes drops punctuation, and the networks were trained with it: it carries the melody. So the text
is cut here, and the marks are put back between the phonemes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MARKS", "Clause", "clauses", "pieces"]

MARKS = ",;:.!?"
"""The marks that the networks know, from the weakest to the strongest."""

_SAME = str.maketrans(
    {
        "，": ",", "、": ",", "،": ",", "；": ";", "؛": ";", "：": ":", "。": ".", "｡": ".", "।": ".", "۔": ".", "…": ".",
        "！": "!", "？": "?", "؟": "?", "¿": " ", "¡": " ", "’": "'", "‘": "'", "ʼ": "'", "\u2010": "-", "\u2011": "-",
        "“": " ", "”": " ", "„": " ", "«": " ", "»": " ", '"': " ", "\u00ad": None, "\u200b": None,
    }
)  # fmt: skip
_BREAK = re.compile(
    # Dashes that stand between words and brackets are heard as commas. A mark inside a word or number is none ("3.5").
    r"[,;:.!?]+(?=[\s)\]}']|$)[\s,;:.!?)\]}]*"
    r"|(?<=[。．！？，、；：])\s*"
    r"|\s*[–—]+\s*|\s+-+\s+|\s*[()\[\]{}]+\s*"
)
_WIDE = re.compile(r"([，、；：。｡！？])")
_UNSAID = re.compile(r"[^\w\s'%&+=@#°€$£¥.,:/×÷<>*^-]|_")
_LONE = re.compile(r"(?<!\w)['-]+(?!\w)|(?<![\w'])'|'(?![\w])")


@dataclass(frozen=True, slots=True)
class Clause:
    text: str
    """Words alone, at least one letter or digit among them."""
    mark: str
    """One of `MARKS`, or nothing."""


def clauses(text: str) -> list[Clause]:
    """The clauses of a sentence (or of several). Nothing for text without letters and digits."""
    # Wide marks end a clause without a space after them.
    text = _WIDE.sub(r"\1 ", text).translate(_SAME)
    out: list[Clause] = []
    at = 0
    for match in _BREAK.finditer(text):
        _add(out, text[at : match.start()], match.group())
        at = match.end()
    _add(out, text[at:], "")
    return out


def _add(out: list[Clause], raw: str, between: str) -> None:
    words = " ".join(_LONE.sub(" ", _UNSAID.sub(" ", raw)).split())
    said = any(character.isalnum() for character in words)
    found = [mark for mark in between if mark in MARKS]
    mark = max(found, key=MARKS.index) if found else "," if between.strip() else ""
    if said:
        out.append(Clause(words, mark))
    elif out and MARKS.find(mark) > MARKS.find(out[-1].mark or "\0"):
        out[-1] = Clause(out[-1].text, mark)


def pieces(parts: Iterable[Clause], *, first: int, longest: int) -> list[list[Clause]]:
    """Clauses gathered into pieces of at most `longest` characters, the first of at most `first` where clauses allow it:
    the listener waits for that one. A clause that is longer alone is a piece of its own, cut between words when it is
    longer than twice that."""
    out: list[list[Clause]] = []
    length = 0
    for whole in parts:
        for clause in _cut(whole, longest):
            limit = first if len(out) == 1 else longest
            if not out or length + len(clause.text) > limit:
                out.append([])
                length = 0
            out[-1].append(clause)
            length += len(clause.text) + 2
    return out


def _cut(clause: Clause, longest: int) -> list[Clause]:
    out: list[Clause] = []
    text = clause.text
    while len(text) > 2 * longest:
        at = text.rfind(" ", 1, longest)
        at = longest if at < 0 else at
        out.append(Clause(text[:at].strip(), ""))
        text = text[at:].strip()
    return [*out, Clause(text, clause.mark)]
