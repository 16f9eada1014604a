"""Numbers in English words, as they are read aloud."""

from __future__ import annotations

from greenroom.agents.speech.numbers import TENS, UNITS

__all__ = ["LARGEST", "cardinal", "decimal", "digits", "ordinal", "plural", "year"]

_UNIT_WORDS = {value: word for word, value in UNITS.items()}
_TEN_WORDS = {value: word for word, value in TENS.items()}
_SCALE_WORDS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
LARGEST = 10**15 - 1
"""What is larger is read digit by digit."""


def cardinal(value: int) -> str:
    """Seventy-two; one hundred and five. Any size: beyond `LARGEST` digit by digit."""
    if value < 0:
        return f"minus {cardinal(-value)}"
    if value > LARGEST:
        return digits(str(value))
    words: list[str] = []
    for scale, name in _SCALE_WORDS:
        if value >= scale:
            words += [_below_thousand(value // scale), name]
            value %= scale
    if value or not words:
        words += ["and"] if words and value < 100 else []
        words.append(_below_thousand(value))
    return " ".join(words)


def _below_thousand(value: int) -> str:
    if value >= 100:
        rest = f" and {_below_hundred(value % 100)}" if value % 100 else ""
        return f"{_UNIT_WORDS[value // 100]} hundred{rest}"
    return _below_hundred(value)


def _below_hundred(value: int) -> str:
    if value < 20:
        return _UNIT_WORDS[value]
    unit = value % 10
    return _TEN_WORDS[value - unit] + (f"-{_UNIT_WORDS[unit]}" if unit else "")


def digits(text: str) -> str:
    """One by one; other characters are passed over."""
    return " ".join(_UNIT_WORDS[int(each)] for each in text if each in "0123456789")


def decimal(text: str) -> str:
    """Of "3.14" or "1,234.5" or "007", as written: three point one four, zero zero seven."""
    whole, point, fraction = text.replace(",", "").partition(".")
    if len(whole) > 1 and whole[0] == "0":
        said = digits(whole)
    else:
        said = cardinal(int(whole)) if whole else ""
    return f"{said} point {digits(fraction)}".strip() if point and fraction else said


def ordinal(value: int) -> str:
    words = cardinal(value)
    head = words[: max(words.rfind(" "), words.rfind("-")) + 1]
    last = words[len(head) :]
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def year(value: int) -> str:
    """Nineteen oh five, twenty twenty-six, two thousand and five; others as numbers."""
    century, rest = divmod(value, 100)
    if not 1100 <= value < 2100 or value // 10 == 200:
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(words: str) -> str:
    """Of the last word: nineties, thirds, quarters."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}es" if words.endswith("x") else f"{words}s"
