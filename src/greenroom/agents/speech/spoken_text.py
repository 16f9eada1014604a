"""Text as it is read aloud: "$5.20 at 10:30 pm" becomes "five dollars and twenty cents at ten thirty P M".

English. Other languages pass, without what no voice can say, to a synthesiser that knows their rules. What comes out consists of
words, apostrophes and hyphens within them, and the marks , ; : . ! ? after them; spoken text stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from greenroom.agents.speech.number_words import cardinal, decimal, digits, ordinal, plural, year
from greenroom.agents.speech.sentences import speakable
from greenroom.agents.speech.spoken_words import (
    ABBREVIATIONS,
    CURRENCIES,
    LETTERED,
    MONTHS,
    SIGNS,
    SPELLED_CAPITALS,
    TITLES,
    TOP_LEVELS,
    UNITS,
    WEEKDAYS,
    WORDS_IN_CAPITALS,
)

__all__ = ["spoken_text"]

PASSES = 4
"""Text that has been put into words is looked at again, until there is nothing to do."""


def spoken_text(text: str, *, language: str = "en-us") -> str:
    """The words to say. Never empty for text with a letter or a digit in it, never raises.

    `language`: a code such as "en-us" or "de". In American English 3/4 is March the fourth, in British English 3 April.
    """
    plain = text
    language = language.lower().replace("_", "-")
    for _ in range(PASSES):
        said = speakable(plain)
        if language.split("-")[0] == "en":
            said = _english(said, day_first=language not in ("en", "en-us"))
        if said == plain:
            break
        plain = said
    if any(character.isalnum() for character in plain):
        return plain
    # All of it was decoration, as in a link without a text.
    return " ".join("".join(each if each.isalnum() else " " for each in text).split())


# --- English -----------------------------------------------------------------------------------------------------------

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9])|[0-9]+(?:\.[0-9]+)?"
_BEFORE = r"(?<![\w.,/:-])"
"""Before a number that stands for itself."""
_MONTH = "|".join(case for name in sorted(MONTHS, key=len, reverse=True) for case in (name.capitalize(), name.upper()))
"""With a capital: "may" and "march" are verbs as well."""
_DAY = r"(?:3[01]|[12][0-9]|0?[1-9])"
_YEAR = r"(?:1[0-9]|20)[0-9]{2}"
_MERIDIEM = r"(?:[aApP]\.?\s?[mM]\b\.?)"
_FIGURES = {
    "½": " 1/2",
    "⅓": " 1/3",
    "⅔": " 2/3",
    "¼": " 1/4",
    "¾": " 3/4",
    "²": " squared",
    "³": " cubed",
    "№": "No. ",
}
_BEFORE_NFKC = str.maketrans(
    {**_FIGURES, "’": "'", "‘": "'", "ʼ": "'", "…": "...", "™": "", "®": "", "©": "", "‐": "-", "‑": "-", "−": "-"}
)


def _english(text: str, day_first: bool) -> str:
    text = unicodedata.normalize("NFKC", text.translate(_BEFORE_NFKC)).replace("\u2044", "/")
    text = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)
    text = _shouting(text)
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
        if pattern is _NUMERIC_DATE:
            text = _NUMERIC_DATE_PARTS.sub(lambda match: _numeric_date(match, day_first), text)
    return _tidy(text)


def _tidy(text: str) -> str:
    """Nothing but words and marks."""
    text = "".join(
        each if each.isalnum() or unicodedata.category(each)[0] == "M" or each in " '-,;:.!?" else " " for each in text
    )
    text = re.sub(r"(?<!\w)['-]+|['-]+(?![\w])|-(?=')|'(?=-)", " ", text)
    text = re.sub(r"\s*([,;:.!?])(?:\s*[,;:.!?])*", lambda match: _strongest(match.group()), text)
    text = re.sub(r"([,;:.!?])(?=\w)", r"\1 ", text)
    return " ".join(text.split()).lstrip(",;:.!? ")


def _strongest(marks: str) -> str:
    return max((each for each in marks if each in ",;:.!?"), key=",;:.!?".index)


def _shouting(text: str) -> str:
    """Three words in capitals and none without are not abbreviations."""
    words = re.findall(r"[^\W\d_]{2,}", text)
    if len(words) >= 3 and all(word.isupper() for word in words):
        return text.lower()
    return text


def _ends(match: re.Match[str]) -> str:
    """The full stop of an abbreviation that ends the sentence as well."""
    rest = match.string[match.end() :]
    return "." if match.group().endswith(".") and (not rest.strip() or re.match(r"\s+[A-Z\"']", rest)) else ""


def _letters(word: str) -> str:
    """Letter by letter. The letter A is written as it sounds, or it would be taken for the article."""
    return " ".join(_LETTER.get(each, each) for each in word.upper() if each.isalnum())


_LETTER = {"A": "eigh"}

# --- addresses ---

_ADDRESS_SIGNS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", "?": "question mark", "=": "equals", "&": "and",
    "#": "hash", "%": "percent", "~": "tilde", ":": "colon", "+": "plus",
}  # fmt: skip


def _address(match: re.Match[str]) -> str:
    address = match.group()
    kept = address.rstrip(".,;:!?)]}'\"/")
    tail = address[len(kept) :].lstrip("/")
    kept = re.sub(r"^(?:[a-z][a-z0-9+]*://)?(?:www\.)?(?=\w)", "", kept, flags=re.IGNORECASE)
    words: list[str] = []
    for part in re.findall(r"[^\W\d_]+|[0-9]+|[^\w\s]|_", kept):
        if part[0] in "0123456789":
            words.append(digits(part))
        elif part in _ADDRESS_SIGNS:
            words.append(_ADDRESS_SIGNS[part])
        elif part.isalpha():
            words.append(_label(part))
    return f" {' '.join(words)}{tail} "


def _label(part: str) -> str:
    low = part.lower()
    if len(low) == 1 or low in LETTERED or (len(low) <= 4 and not re.search(r"[aeiouy]", low)):
        return _letters(low)
    return low


# --- dates and times ---


def _date(month: int, day: int, in_year: str | None) -> str:
    said = f"{_MONTH_NAMES[month - 1]} {ordinal(day)}"
    return f"{said}, {year(int(in_year))}" if in_year else said


_MONTH_NAMES = list(dict.fromkeys(MONTHS.values()))
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _iso_date(match: re.Match[str]) -> str:
    month, day = int(match["month"]), int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= _MONTH_DAYS[month - 1]):
        return match.group()
    return _date(month, day, match["year"])


def _numeric_date(match: re.Match[str], day_first: bool) -> str:
    month, day = int(match["a"]), int(match["b"])
    if day_first or month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= _MONTH_DAYS[month - 1]):
        return match.group()
    in_year = match["year"]
    if len(in_year) == 2:
        in_year = f"20{in_year}"
    return _date(month, day, in_year)


def _month_day(match: re.Match[str]) -> str:
    return _date(_MONTH_NAMES.index(MONTHS[match["month"].lower()]) + 1, int(match["day"]), match["year"])


def _day_of_month(match: re.Match[str]) -> str:
    in_year = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{ordinal(int(match['day']))} of {MONTHS[match['month'].lower()]}{in_year}"


def _month_year(match: re.Match[str]) -> str:
    return f"{MONTHS[match['month'].lower()]} {year(int(match['year']))}"


def _meridiem(match: re.Match[str]) -> str:
    half = match["half"]
    if not half:
        return ""
    return f" {_letters(half[0] + 'm')}{_ends(match)}"


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), int(match["minute"]), match["half"]
    if hour > 24 or minute > 59:
        return match.group()
    said = cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not half:
        said += " o'clock" if 1 <= hour <= 12 else " hundred"
    if match["second"]:
        said += f" and {cardinal(int(match['second']))} seconds"
    return said + _meridiem(match)


def _hour(match: re.Match[str]) -> str:
    return cardinal(int(match["hour"])) + _meridiem(match)


# --- quantities ---


def _money(match: re.Match[str]) -> str:
    one, many, part, parts = CURRENCIES[match["sign"]]
    return _amount(match["amount"], match["scale"], one, many, part, parts)


def _money_behind(match: re.Match[str]) -> str:
    one, many, part, parts = CURRENCIES[match["sign"]]
    return _amount(match["amount"], None, one, many, part, parts)


_SCALES = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "b": "billion",
    "bn": "billion",
    "t": "trillion",
    "tn": "trillion",
}


def _amount(amount: str, scale: str | None, one: str, many: str, part: str, parts: str) -> str:
    if scale:
        return f"{decimal(amount)} {_SCALES.get(scale.lower(), scale.lower())} {many}"
    whole, _, cents = amount.replace(",", "").partition(".")
    units = int(whole)
    if not cents or not part or len(cents) > 2:
        return f"{decimal(amount)} {one if amount == '1' else many}"
    small = int(cents.ljust(2, "0"))
    said = [f"{cardinal(units)} {one if units == 1 else many}"] if units or not small else []
    if small:
        said.append(f"{cardinal(small)} {part if small == 1 else parts}")
    return " and ".join(said)


def _unit(match: re.Match[str]) -> str:
    one, many = UNITS[match["unit"]]
    return f"{decimal(match['amount'])} {one if match['amount'] == '1' else many}"


def _range_unit(match: re.Match[str]) -> str:
    return f"{decimal(match['low'])} to {match['rest']}"


def _phone(match: re.Match[str]) -> str:
    number = match.group()
    groups = re.findall(r"[0-9]+", number)
    if not 7 <= sum(map(len, groups)) <= 15:
        return number
    plus = "plus " if number.startswith("+") else ""
    return plus + ", ".join(digits(group) for group in groups)


def _dotted(match: re.Match[str]) -> str:
    """Of versions and of addresses in a network."""
    parts = match.group().split(".")
    if len(parts) == 4:
        return " dot ".join(digits(part) for part in parts)
    return " point ".join(decimal(part) for part in parts)


def _fraction(match: re.Match[str]) -> str:
    whole, above, below = match["whole"], int(match["above"]), int(match["below"])
    if (above, below) == (24, 7):
        said = "twenty-four seven"
    elif below in (0, 1) or below > 20 or above > 20 or above >= below * 3:
        said = f"{cardinal(above)} over {cardinal(below)}"
    else:
        name = {2: "half", 4: "quarter"}.get(below) or ordinal(below)
        name = "halve" if name == "half" and above != 1 else name
        said = f"{cardinal(above)} {name if above == 1 else plural(name)}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _decade(match: re.Match[str]) -> str:
    value = int(match["value"])
    if value >= 1000:
        said = year(value)
        return plural(said) if value % 100 else f"{said}s"
    return plural(cardinal(value)) if value else match.group()


def _sign_between(match: re.Match[str]) -> str:
    return f" {SIGNS[match['sign']]} "


def _minus(match: re.Match[str]) -> str:
    return " minus " if "=" in match.string or "equals" in match.string else " to "


# --- words ---


def _abbreviation(match: re.Match[str]) -> str:
    word = match["word"].lower()
    # A name follows a title, so its full stop ends nothing.
    return ABBREVIATIONS[word] + ("" if word in TITLES else _ends(match))


def _saint(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()], match.string[match.end() :]
    street = re.search(r"[A-Z0-9]\w*\s+$", before) and not re.match(r"\s+[A-Z]\w*\s+(?:St|Ave|Rd)\b", after)
    word = match["word"].lower()
    if street and not (word == "dr" and re.match(r"\s+[A-Z]", after)):
        return {"st": "Street", "dr": "Drive"}[word] + _ends(match)
    return {"st": "Saint", "dr": "Doctor"}[word]


def _initials(match: re.Match[str]) -> str:
    return _letters(match.group()) + _ends(match)


def _capitals(match: re.Match[str]) -> str:
    word, many = match["word"], match["many"]
    if word in WORDS_IN_CAPITALS:
        return (WORDS_IN_CAPITALS[word] or word.lower()) + (many or "")
    if word not in SPELLED_CAPITALS and len(word) > 4 and re.search(r"[AEIOUY]", word):
        return word.lower() + (many or "")
    return _letters(word) + ("'s" if many else "")


def _mixed(match: re.Match[str]) -> str:
    """B12, 4K, mp3: letters and digits are said apart."""
    parts = re.findall(r"[^\W\d_]+|[0-9]+", match.group())
    words = []
    for part in parts:
        if part[0] in "0123456789":
            words.append(decimal(part) if len(part) < 4 else digits(part))
        else:
            words.append(_letters(part) if len(part) <= 2 or part.isupper() else part)
    return " ".join(words)


def _rule(pattern: str, say: Callable[[re.Match[str]], str] | str, flags: int = 0) -> _Rule:
    if isinstance(say, str):
        words = say
        return re.compile(pattern, flags), lambda match: match.expand(words)
    return re.compile(pattern, flags), say


_NUMERIC_DATE = re.compile(r"(?!)")
"""Stands for the place at which dates like 3/4/2026 are read, which depends on the country."""
_NUMERIC_DATE_PARTS = re.compile(
    rf"{_BEFORE}(?P<a>{_DAY})[/.](?P<b>{_DAY})[/.](?P<year>{_YEAR}|(?<=/)[0-9]{{2}})(?![\w/])"
)

_CURRENCY_SIGNS = "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True))
_UNIT_NAMES = "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True))
_ABBREVIATED = "|".join(re.escape(word) for word in sorted(ABBREVIATIONS, key=len, reverse=True))
_YEAR_WORDS = "in|since|of|from|until|till|by|year|during|before|after|around|circa|between|and|to|early|late|mid|through|spring|summer|autumn|fall|winter"

_RULES: tuple[_Rule, ...] = (
    _rule(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    _rule(r"\b(?:[a-z][a-z0-9+]*://|www\.)[^\s<>\"]+", _address, re.IGNORECASE),
    _rule(rf"(?<![\w@.-])(?:[a-z0-9-]+\.)+(?:{TOP_LEVELS})\b(?!\.\w)(?:[/?#][^\s<>\"]*)?", _address, re.IGNORECASE),
    # Dates.
    _rule(rf"{_BEFORE}(?P<year>{_YEAR})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})(?:T(?=[0-9]))?(?![\w-])", _iso_date),
    _rule(rf"{_BEFORE}(?P<year>{_YEAR})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})T(?=[0-9])", lambda match: f"{_iso_date(match)} at "),
    (_NUMERIC_DATE, lambda match: match.group()),
    _rule(rf"\b(?P<day>{WEEKDAYS})\b\.?(?=,?\s+(?:the\s+)?(?:(?:{_MONTH})\b|[0-9]))", lambda match: _weekday(match["day"])),
    _rule(rf"\b(?P<month>{_MONTH})\b\.?\s+(?P<day>{_DAY})(?:st|nd|rd|th)?\b(?![:.]?[0-9]|\s*[ap]\.?m\b)(?:,?\s+(?P<year>{_YEAR})\b(?!,[0-9]))?", _month_day),
    _rule(rf"\b(?P<day>{_DAY})(?:st|nd|rd|th)?\s+of\s+(?P<month>{_MONTH})\b\.?(?:,?\s+(?P<year>{_YEAR})\b)?", _day_of_month),
    _rule(rf"\b(?P<day>{_DAY})(?:st|nd|rd|th)?\s+(?P<month>{_MONTH})\b\.?(?:,?\s+(?P<year>{_YEAR})\b)?", _month_day),
    _rule(rf"\b(?P<month>{_MONTH})\b\.?,?\s+(?P<year>{_YEAR})\b", _month_year),
    # Times.
    _rule(rf"{_BEFORE}(?P<hour>[0-9]{{1,2}}):(?P<minute>[0-9]{{2}})(?::(?P<second>[0-9]{{2}}))?(?![\w:])(?:\s*(?P<half>{_MERIDIEM}))?", _time),
    _rule(rf"{_BEFORE}(?P<hour>[0-9]{{1,2}}):(?P<minute>[0-9]{{2}})(?P<second>(?!))?(?P<half>{_MERIDIEM})", _time),
    _rule(rf"{_BEFORE}(?P<hour>1[0-2]|0?[1-9])\s*(?P<half>{_MERIDIEM})", _hour),
    # Money.
    _rule(rf"(?<![\w.])-(?=(?:{_CURRENCY_SIGNS})\s?[0-9])", " minus "),
    _rule(rf"(?P<sign>{_CURRENCY_SIGNS})\s?(?P<amount>{_NUMBER})(?:\s?(?P<scale>thousand|million|billion|trillion|[kmbtKMBT]n?)\b)?", _money),
    _rule(rf"{_BEFORE}(?P<amount>{_NUMBER})\s?(?P<sign>{_CURRENCY_SIGNS})(?!\w)", _money_behind),
    # Telephone numbers, versions.
    _rule(r"(?<![\w.,-])\+[0-9]{1,3}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}(?![\w-])", _phone),
    _rule(r"(?<![\w.,-])(?:1[ .-])?\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}(?![\w-])", _phone),
    _rule(r"(?<![\w.,-])[0-9]{3}-[0-9]{4}(?![\w-])", _phone),
    _rule(r"(?<![\w.,-])0[0-9]{2,4}(?:[ -][0-9]{2,4}){1,3}(?![\w-])", _phone),
    _rule(r"(?<![\w.,-])[vV]?[0-9]+(?:\.[0-9]+){2,}(?!\w)", lambda match: _version(match)),
    # Quantities.
    _rule(r"(?:(?<!\w)')?\b(?P<value>(?:1[1-9]|20)[0-9]0|[2-9]0)'?s\b", _decade),
    _rule(rf"\b(?P<word>{_YEAR})\s?-\s?(?P<to>{_YEAR})(?![\w-])", lambda match: f"{year(int(match['word']))} to {year(int(match['to']))}"),
    _rule(rf"{_BEFORE}(?P<low>{_NUMBER})\s?[-–]\s?(?P<rest>(?:{_NUMBER})\s?(?:(?:{_UNIT_NAMES})(?![\w'])|%))", _range_unit),
    _rule(rf"{_BEFORE}(?P<amount>{_NUMBER})\s?(?P<unit>{_UNIT_NAMES})(?![\w'])", _unit),
    _rule(rf"(?P<amount>{_NUMBER})\s?%", lambda match: f"{decimal(match['amount'])} percent "),
    _rule(r"(?<![\w.])(?P<value>[0-9]+)(?:st|nd|rd|th)\b", lambda match: ordinal(int(match["value"])), re.IGNORECASE),
    _rule(r"(?<![\w./])(?:(?P<whole>[0-9]+)\s)?(?P<above>[0-9]{1,2})/(?P<below>[0-9]{1,2})(?![\w/])", _fraction),
    _rule(rf"(?P<before>\b(?:{_YEAR_WORDS})\s+(?:the\s+year\s+)?)(?P<year>1[1-9][0-9]{{2}}|20[0-9]{{2}})\b(?![.,:][0-9]|[\w%])", lambda match: match["before"] + year(int(match["year"])), re.IGNORECASE),
    _rule(r"(?<![\w.,/:+*^-])(?P<year>19[0-9]{2}|20[0-9]{2})(?![\w%]|[.,:/*^][0-9]|\s*[-+*x=<>/])", lambda match: year(int(match["year"]))),
    # Signs between numbers.
    _rule(r"(?<=[\w)])\s*(?P<sign>>=|<=|!=|==|≥|≤|≠|≈)\s*(?=[\w(-])", _sign_between),
    _rule(r"(?<=[0-9)])\s*(?P<sign>[*×·÷+=<>^])\s*(?=[\w(+-])|(?<=\w)\s+(?P<word>[=<>+*])\s+(?=[\w(-])", lambda match: f" {SIGNS[match['sign'] or match['word']]} "),
    _rule(r"(?<=[0-9)])\s*[xX]\s*(?=[0-9(])", " times "),
    _rule(r"(?<=[0-9)])\s+/\s+(?=[0-9(])", " divided by "),
    _rule(r"(?<=[0-9)])\s+-\s+(?=[0-9(])", " minus "),
    _rule(r"(?<=[0-9])[-–](?=[0-9])", _minus),
    _rule(r"(?<=[0-9]):(?=[0-9])", " to "),
    _rule(r"(?<![\w)])-(?=\.?[0-9])", " minus "),
    _rule(r"(?<!\w)\+(?=\.?[0-9])", " plus "),
    _rule(r"(?<!\w)[~≈](?=[0-9])", "about "),
    _rule(r"(?<!\w)#(?=[0-9])", "number "),
    _rule(r"\b(?:No|Nr|no)\.\s?(?=[0-9])", "number "),
    _rule(r"\b[CF]#", lambda match: f"{match.group()[0]} sharp"),
    _rule(r"\b[CcGg]\+\+", lambda match: f"{match.group()[0]} plus plus"),
    # Abbreviations and initials.
    _rule(r"\b(?P<word>St|Dr)\b\.?(?<=[.tr])(?=\.|\s|,|$|[!?])\.?", _saint),
    _rule(rf"(?<![\w.])(?P<word>{_ABBREVIATED})\.(?!\w)", _abbreviation, re.IGNORECASE),
    _rule(r"\b(?:and/or)\b", "and or", re.IGNORECASE),
    _rule(r"(?<!\w)w/o\b", "without"),
    _rule(r"(?<!\w)w/(?=\s)", "with"),
    _rule(r"(?<![\w.])(?:Ph\.\s?D|[A-Za-z](?:\.[A-Za-z])+)\.?(?!\w)", _initials),
    _rule(r"(?<![\w'])(?P<word>[A-Z]{2,6})(?P<many>s|'s)?(?![\w])", _capitals),
    # What is left of numbers.
    _rule(r"(?<=[^\W\d_])-(?=[0-9])", " "),
    _rule(r"(?<![\w.])[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![\w])", lambda match: decimal(match.group())),
    _rule(r"\b(?=\w*[0-9])(?=\w*[^\W\d_])[^\W_]+\b", _mixed),
    _rule(r"(?<![\w.])\.[0-9]+", lambda match: decimal(match.group())),
    _rule(r"[0-9]+(?:\.[0-9]+)?", lambda match: f" {decimal(match.group())} "),
    # What is left of signs.
    _rule(r"(?P<sign>[%&@+=°#§√π$€£¥±×÷≥≤≠≈^])", _sign_between),
    _rule(r"(?<=[a-z])\s?/\s?(?=(?:second|minute|hour|night|day|week|month|year|person|kilogram|litre)\b)", " per "),
    _rule(r"(?<=\w)/(?=\w)", " slash "),
    _rule(r"\.{2,}(?=\s+[a-z])", ","),
    _rule(r"\s*[–—]+\s*|\s+-+\s+|\s*[()\[\]{}|]+\s*", " , "),
)  # fmt: skip


def _weekday(short: str) -> str:
    names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return next(name for name in names if name.startswith(short[:3]))


def _version(match: re.Match[str]) -> str:
    text = match.group()
    if text[0] in "vV":
        return "version " + " point ".join(decimal(part) for part in text[1:].split("."))
    return _dotted(match)
