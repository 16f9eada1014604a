"""The few facts that the brain knows by heart."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["look_up", "phrases"]

_CAPITALS = {
    "france": "Paris", "germany": "Berlin", "italy": "Rome", "spain": "Madrid", "england": "London",
    "the united kingdom": "London", "ireland": "Dublin", "portugal": "Lisbon", "austria": "Vienna", "greece": "Athens",
    "poland": "Warsaw", "sweden": "Stockholm", "norway": "Oslo", "denmark": "Copenhagen", "finland": "Helsinki",
    "russia": "Moscow", "japan": "Tokyo", "china": "Beijing", "india": "New Delhi", "canada": "Ottawa",
    "australia": "Canberra", "brazil": "Brasilia", "mexico": "Mexico City", "egypt": "Cairo", "turkey": "Ankara",
    "the united states": "Washington", "america": "Washington", "belgium": "Brussels", "switzerland": "Bern",
    "the netherlands": "Amsterdam", "hungary": "Budapest", "cuba": "Havana", "argentina": "Buenos Aires",
}  # fmt: skip

_COUNTS = {
    ("days", "week"): 7, ("days", "year"): 365, ("months", "year"): 12, ("weeks", "year"): 52, ("hours", "day"): 24,
    ("minutes", "hour"): 60, ("seconds", "minute"): 60, ("seconds", "hour"): 3600, ("minutes", "day"): 1440,
    ("inches", "foot"): 12, ("letters", "alphabet"): 26, ("centimeters", "meter"): 100, ("grams", "kilogram"): 1000,
    ("continents", "world"): 7, ("legs", "spider"): 8, ("planets", "solar system"): 8, ("years", "century"): 100,
}  # fmt: skip

_CAPITAL = re.compile(r"capital (?:city )?(?:of|off|in) (?P<of>[a-z ]+?)(?: please)?$")
_HOW_MANY = re.compile(
    r"how many (?P<what>\w+) (?:are there |are |does |do |has |make )?(?:in |on )?(?:an? |the )?(?P<of>[a-z ]+?)(?: have)?(?: please)?$"
)


def look_up(text: str) -> str | None:
    """The answer when the question asks for one of the facts, else None."""
    plain = re.sub(r"[^a-z ]", "", text.lower()).strip()
    if (asked := _CAPITAL.search(plain)) is not None:
        of = asked["of"].strip()
        capital = _CAPITALS.get(of) or _CAPITALS.get(of.removeprefix("the ")) or _CAPITALS.get(f"the {of}")
        if capital is not None:
            return f"The capital of {of if of.startswith('the ') else of.title()} is {capital}."
    if (asked := _HOW_MANY.search(plain)) is not None:
        count = _COUNTS.get((asked["what"], asked["of"].strip()))
        if count is not None:
            place = asked["of"].strip()
            article = (
                "the"
                if place in ("alphabet", "world", "solar system")
                else "an"
                if place[0] in "aeio" or place == "hour"
                else "a"
            )
            return (
                f"There are {count} {asked['what']} in {article} {place}."
                if place != "spider"
                else f"A spider has {count} legs."
            )
    return None


def phrases() -> Iterator[str]:
    for country in _CAPITALS:
        yield f"what is the capital of {country}"
        yield f"what's the capital of {country}"
        yield f"what is the capital city of {country}"
    for what, of in _COUNTS:
        article = "the" if of in ("alphabet", "world", "solar system") else "an" if of == "hour" else "a"
        yield f"how many {what} are there in {article} {of}"
        yield f"how many {what} are in {article} {of}"
        yield f"how many {what} does {article} {of} have"
