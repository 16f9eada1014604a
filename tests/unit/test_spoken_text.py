"""How numbers, dates, money, abbreviations and addresses are read aloud."""

from __future__ import annotations

import pytest

from greenroom.agents.speech.number_words import cardinal, decimal, ordinal, year
from greenroom.agents.speech.spoken_text import spoken_text

TABLE = {
    # Dates and times.
    "2026-11-29": "November twenty-ninth, twenty twenty-six",
    "3/4/2026": "March fourth, twenty twenty-six",
    "13/4/2026": "April thirteenth, twenty twenty-six",
    "On Nov. 5th, 2026 at 10:30 pm.": "On November fifth, twenty twenty-six at ten thirty P M.",
    "Mon, Nov 5": "Monday, November fifth",
    "the 1st of May": "the first of May",
    "5 Nov. 2026": "November fifth, twenty twenty-six",
    "I may 5 times": "I may five times",
    "at 10 p.m. He left": "at ten P M. He left",
    "9:00 am": "nine eigh M",
    "10:05": "ten oh five",
    "10:00": "ten o'clock",
    "14:00": "fourteen hundred",
    "2026-13-45": "two thousand and twenty-six to thirteen to forty-five",
    "On 2026-11-29T10:30 it began": "On November twenty-ninth, twenty twenty-six at ten thirty it began",
    # Numbers.
    "1,234.5 books": "one thousand two hundred and thirty-four point five books",
    "3.14": "three point one four",
    "the 21st": "the twenty-first",
    "the 1990s and the '80s": "the nineteen nineties and the eighties",
    "in 1905": "in nineteen oh five",
    "born 1984": "born nineteen eighty-four",
    "007": "zero zero seven",
    "1/2 cup and 2 3/4 cups": "one half cup and two and three quarters cups",
    "½": "one half",
    "24/7": "twenty-four seven",
    "16:9": "sixteen to nine",
    "version 1.2.3": "version one point two point three",
    "192.168.1.1": "one nine two dot one six eight dot one dot one",
    "call +1 (555) 123-4567": "call plus one, five five five, one two three, four five six seven",
    "555-1234": "five five five, one two three four",
    # Money and measures.
    "$5.20": "five dollars and twenty cents",
    "$1": "one dollar",
    "$0.99": "ninety-nine cents",
    "$0.01": "one cent",
    "€3": "three euros",
    "£1.5m": "one point five million pounds",
    "$5/month": "five dollars per month",
    "50%": "fifty percent",
    "1 km": "one kilometre",
    "5 km": "five kilometres",
    "3-5 kg": "three to five kilograms",
    "20°C": "twenty degrees Celsius",
    "100 km/h": "one hundred kilometres per hour",
    # Arithmetic.
    "7 x 8 = 56": "seven times eight equals fifty-six",
    "2*3": "two times three",
    "5 > 3": "five is greater than three",
    "5-3=2": "five minus three equals two",
    "It is -5 now": "It is minus five now",
    # Short forms.
    "Dr. Smith met Mr. Jones on Main St. in St. Louis, e.g. today, etc.": (
        "Doctor Smith met Mister Jones on Main Street in Saint Louis, for example today, et cetera."
    ),
    "The U.S. and the USA": "The U S and the U S eigh",
    "NASA, the FBI's PDFs": "nasa, the F B I's P D F's",
    "Is it OK?": "Is it okay?",
    "STOP NOW PLEASE": "stop now please",
    "B12 and 4K": "B twelve and four K",
    "COVID-19": "covid nineteen",
    "No. 5, #1": "number five, number one",
    "C# and C++": "C sharp and C plus plus",
    "and/or": "and or",
    "I'm here": "I'm here",
    # Addresses.
    "jane.doe@example.co.uk": "jane dot doe at example dot co dot U K",
    "See https://www.example.com/a-b?x=1.": (
        "See example dot com slash eigh dash B question mark X equals one."
    ),
    # Marks.
    'He said: "Hello" (really) - yes!': "He said: Hello, really, yes!",
    "Well... maybe": "Well, maybe",
    "What?! No...": "What? No.",
    "**Bold** 😀 [link](https://example.com)": "Bold link",
    "": "",
    "...": "",
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), TABLE.items())
def test_english(text: str, said: str) -> None:
    assert spoken_text(text) == said


def test_a_day_comes_first_where_it_is_written_first() -> None:
    assert spoken_text("3/4/2026", language="en-gb") == "April third, twenty twenty-six"


def test_other_languages_pass() -> None:
    assert spoken_text("Das kostet 3,50 € am 5.6. **heute** 😀", language="de") == "Das kostet 3,50 € am 5.6. heute"


def test_numbers_in_words() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(-21) == "minus twenty-one"
    assert cardinal(1_000_001) == "one million and one"
    assert cardinal(10**18).startswith("one zero zero")
    assert ordinal(112) == "one hundred and twelfth"
    assert ordinal(20) == "twentieth"
    assert [year(each) for each in (1066, 1900, 2000, 2005, 2010)] == [
        "one thousand and sixty-six",
        "nineteen hundred",
        "two thousand",
        "two thousand and five",
        "twenty ten",
    ]
    assert decimal(".5") == "point five"
