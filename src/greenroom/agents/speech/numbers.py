"""Numbers as people say them: "one hundred and twelve", "two point five", "a dozen", "3.5"."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["HOMOPHONES", "UNITS", "parse_number", "say_number", "tokenize"]

UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
TENS = {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SPELLINGS = {"fourty": "forty", "nought": "zero", "naught": "zero", "nil": "zero", "ninty": "ninety"}

HOMOPHONES = {
    "to": "two", "too": "two", "for": "four", "fore": "four", "won": "one", "ate": "eight", "age": "eight",
    "free": "three", "tree": "three", "nein": "nine", "mine": "nine", "sex": "six", "sicks": "six", "tin": "ten",
    "fife": "five", "oh": "zero", "tend": "ten", "then": "ten", "hate": "eight", "a": "eight", "fours": "four",
    "threes": "three", "sevens": "seven", "nines": "nine", "eights": "eight", "twos": "two", "fives": "five",
    "tens": "ten", "sixes": "six",
}  # fmt: skip
"""What recognisers write where a number was said. Only applied where an operator makes a number certain."""

_ORDINALS = dict(
    enumerate("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 1)
)
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[a-z]+(?:'[a-z]+)?|[-+*/×÷^%=−–]")


def tokenize(text: str) -> list[str]:
    """Lower-case words, numbers and arithmetic signs. Other punctuation is dropped, hyphens inside words split them."""
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower().replace("’", "'"))
    text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", " * ", text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda match: _ORDINALS.get(int(match[1]), match[0]), text)
    text = re.sub(r"(\d)\s*½", r"\1.5", text)
    return [_SPELLINGS.get(token, token) for token in _TOKEN.findall(text)]


def parse_number(
    tokens: list[str], at: int, *, use_and: bool = True, homophones: bool = False
) -> tuple[Fraction, int] | None:
    """The longest number beginning at `tokens[at]` and the index behind it, or None.

    `use_and`: "one hundred and twelve" is one number. `homophones`: "to" may stand for two.
    """
    if at >= len(tokens):
        return None
    if re.fullmatch(r"[\d,]+(?:\.\d+)?", tokens[at]):
        value, end = Fraction(tokens[at].replace(",", "")), at + 1
        if end < len(tokens) and tokens[end] in _SCALES:
            value, end = value * _SCALES[tokens[end]], end + 1
        rest = tokens[end + 1] if use_and and tokens[end : end + 1] == ["and"] and end + 1 < len(tokens) else ""
        if rest.isdigit() and value and value % 100 == 0 and 0 < int(rest) < 100:
            value, end = value + int(rest), end + 2
        return value, end
    parsed = _parse_words(tokens, at, use_and, homophones)
    if parsed is None:
        return None
    value, end = parsed
    digits = ""
    if end < len(tokens) and tokens[end] == "point":
        i = end + 1
        while i < len(tokens):
            word = _alias(tokens[i], homophones and tokens[i] != "a")
            if tokens[i].isdigit():
                digits += tokens[i]
            elif word in UNITS and UNITS[word] < 10:
                digits += str(UNITS[word])
            else:
                break
            i += 1
        if digits:
            value, end = value + Fraction(int(digits), 10 ** len(digits)), i
    if tokens[end : end + 3] == ["and", "a", "half"]:
        value, end = value + Fraction(1, 2), end + 3
    return value, end


def _alias(word: str, homophones: bool) -> str:
    return HOMOPHONES.get(word, word) if homophones else word


def _parse_words(tokens: list[str], at: int, use_and: bool, homophones: bool) -> tuple[Fraction, int] | None:
    if tokens[at : at + 2] in (["a", "half"], ["one", "half"]):
        return Fraction(1, 2), at + 2
    if tokens[at] in ("a", "one", "an") and tokens[at + 1 : at + 2] == ["dozen"]:
        return Fraction(12), at + 2
    total, group, i, last = 0, None, at, 0
    # `last`: size of the previous word's place, so that "twenty five" joins and "five twenty" does not.
    while i < len(tokens):
        word = tokens[i]
        following = tokens[i + 1] if i + 1 < len(tokens) else ""
        if word == "a" and following in ("hundred", "thousand", "million", "billion", "trillion") and group is None:
            group, last = 1, 1
        elif (
            word == "and"
            and use_and
            and group is not None
            and last >= 100
            and (following in UNITS or following in TENS)
        ):
            pass
        elif word == "and" and use_and and group is None and total and (following in UNITS or following in TENS):
            pass
        elif (plain := _alias(word, homophones)) in UNITS and not (
            word in HOMOPHONES and group is not None and last < 20
        ):
            value = UNITS[plain]
            if group is None:
                group = value
            elif last >= 100 or (20 <= last < 100 and 0 < value < 10):
                group += value
            else:
                break
            last = 1 if value < 10 else 10
        elif word in TENS:
            if group is None:
                group = TENS[word]
            elif last >= 100:
                group += TENS[word]
            else:
                break
            last = 20
        elif word == "hundred":
            if group is not None and last >= 100:
                break
            group, last = 100 * (group if group is not None else 1), 100
        elif word in _SCALES and (group is not None or total == 0):
            total += (1 if group is None else group) * _SCALES[word]
            group, last = None, 1000
        else:
            break
        i += 1
    while i > at and tokens[i - 1] == "and":
        i -= 1
    if i == at:
        return None
    return Fraction(total + (group or 0)), i


def say_number(value: Fraction | float) -> str:
    """Digits as a caption shows them and a synthesiser says them; more than four decimals become "about"."""
    if isinstance(value, float):
        rounded = round(value, 4)
        shown = f"{rounded:.4f}".rstrip("0").rstrip(".")
        return shown if rounded == value else f"about {shown}"
    if value.denominator == 1:
        return str(int(value))
    exact = value * 10_000
    if exact.denominator == 1:
        return f"{float(value):.4f}".rstrip("0").rstrip(".")
    return say_number(float(value))
