"""Words that a recogniser got wrong."""

from __future__ import annotations

from typing import Any

from greenroom.agents.speech.numbers import parse_number, say_number, tokenize

__all__ = ["word_errors", "words"]


def words(text: str) -> list[str]:
    """Lower case, without punctuation; numbers the same in words and in digits."""
    tokens: list[Any] = [token for token in tokenize(text) if token[0].isalnum()]
    found, at = [], 0
    while at < len(tokens):
        number = parse_number(tokens, at) if tokens[at] not in ("a", "an") else None
        if number is None:
            found.append(tokens[at].replace("'", ""))
            at += 1
        else:
            found.append(say_number(number[0]))
            at = number[1]
    return found


def word_errors(said: list[str], heard: list[str]) -> int:
    """The least number of words to replace, insert and delete that makes the one the other."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[:], i
        for j, other in enumerate(heard, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != other))
    return row[-1]
