"""Spoken arithmetic: found in a sentence, worked out exactly, in spite of misheard numbers."""

from fractions import Fraction

import pytest

from greenroom.agents.speech.numbers import parse_number, say_number, tokenize
from greenroom.plugins.rules.arithmetic import solve


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("zero", 0),
        ("forty two", 42),
        ("forty-two", 42),
        ("a hundred", 100),
        ("one hundred and twelve", 112),
        ("one hundred twelve", 112),
        ("twelve hundred", 1200),
        ("nineteen hundred and eighty four", 1984),
        ("three thousand four hundred and five", 3405),
        ("two million", 2_000_000),
        ("one million two hundred thousand and one", 1_200_001),
        ("1,234.5", Fraction(2469, 2)),
        ("three point one four", Fraction(157, 50)),
        ("zero point zero five", Fraction(1, 20)),
        ("two and a half", Fraction(5, 2)),
        ("a dozen", 12),
        ("3 million", 3_000_000),
    ],
)
def test_numbers_in_words(said, value):
    tokens = tokenize(said)
    assert parse_number(tokens, 0) == (value, len(tokens))


@pytest.mark.parametrize(
    ("said", "value", "words"),
    [("five twenty", 5, 1), ("twenty five six", 25, 2), ("twelve and three", 12, 1), ("one hundred and", 100, 2)],
)
def test_a_number_ends_where_the_words_stop_fitting(said, value, words):
    assert parse_number(tokenize(said), 0) == (value, words)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("what is seven times eight", 56),
        ("What's 12 x 12?", 144),
        ("What is 7x8?", 56),
        ("What is 7 × 8.", 56),
        ("What is 100 and 12 divided by 4?", 28),
        ("Add 100 and 12.", 112),
        ("What is 20% of 50%?", 10),
        ("What is 2 to the 8th power?", 256),
        ("How much is 3/4 of 100?", 75),
        ("What is twelve point 5 times 2?", 25),
        ("What is 2½ times 2?", 5),
        ("What is the 4th root of 81?", 3),
        ("What is 1,250 times 4?", 5000),
        ("how much is one hundred and twelve divided by four", 28),
        ("what is the square root of one hundred and forty four", 12),
        ("square root of eighty one please", 9),
        ("add fifteen and twenty seven", 42),
        ("add one hundred and twelve to five", 117),
        ("subtract five from twenty", 15),
        ("take three from ten", 7),
        ("multiply six by seven", 42),
        ("divide ninety by four please", Fraction(45, 2)),
        ("what is two and two", 4),
        ("fifty percent of eighty", 40),
        ("what's 15% of 200?", 30),
        ("three plus four times two", 11),
        ("3 + 4 * 2", 11),
        ("nine squared", 81),
        ("two cubed", 8),
        ("three to the power of four", 81),
        ("two to the tenth power", 1024),
        ("half of ninety", 45),
        ("a third of ninety nine", 33),
        ("twice twenty one", 42),
        ("the sum of three and nine", 12),
        ("the product of twelve and eleven", 132),
        ("the difference between twenty and six", 14),
        ("minus three plus ten", 7),
        ("can you tell me what six times six is", 36),
        ("what does seven plus three equal", 10),
        ("five factorial", 120),
        ("the cube root of twenty seven", 3),
        ("what is a hundred minus one", 99),
        ("hello there what is eight times seven minus six", 50),
        ("what is one plus one plus one", 3),
        ("seventeen plus twenty six equals", 43),
        ("what is two point five times four", 10),
    ],
)
def test_calculations(asked, answer):
    found = solve(asked)
    assert found is not None and found.value == answer


@pytest.mark.parametrize(
    ("heard", "answer"),
    [
        ("what is to plus to", 4),
        ("what is too plus for", 6),
        ("what is seven times ate", 56),
        ("what is won plus one", 2),
        ("how much is nine times mine", 81),
        ("what is a plus for", 12),
        ("what is tree times free", 9),
        ("at fifteen and twenty seven", 42),
        ("nine square", 81),
    ],
)
def test_misheard_numbers_still_count(heard, answer):
    found = solve(heard)
    assert found is not None and found.value == answer


@pytest.mark.parametrize(
    "said",
    [
        "what time is it",
        "one two three",
        "if i have three apples",
        "i have two cats and three dogs",
        "what day is it to day",
        "who are you",
        "",
        "plus",
        "times square is nice",
        "the train to london leaves in ten minutes",
        "word " * 500,
    ],
)
def test_what_is_no_calculation_is_left_alone(said):
    assert solve(said) is None


def test_impossible_calculations_say_why():
    assert "zero" in solve("ten divided by zero").sentence()
    assert "negative" in solve("the square root of minus four").sentence()
    assert "too long" in solve("nine to the power of nine hundred").sentence()
    assert solve("one thousand to the power of one thousand").value is None


def test_answers_are_sentences_with_digits():
    assert solve("what is seven times eight").sentence() == "7 times 8 is 56."
    assert solve("square root of two").sentence() == "The square root of 2 is about 1.4142."
    assert say_number(Fraction(12544)) == "12544"
    assert say_number(Fraction(1, 3)) == "about 0.3333"
    assert say_number(Fraction(-5, 2)) == "-2.5"
