"""The rule-based brain: many phrasings, misrecognised ones included, and honesty about the rest."""

import random
from datetime import datetime

import pytest

from greenroom.agents.speech import ChatMessage
from greenroom.plugins.rules import RuleBrain

NOW = datetime(2026, 11, 21, 15, 5)


def ask(*said: str) -> str:
    """The answer to the last of these, in one conversation."""
    brain = RuleBrain(clock=lambda: NOW, rng=random.Random(1))
    messages: list[ChatMessage] = []
    answer = ""
    for text in said:
        messages.append(ChatMessage("user", text))
        answer = brain.answer(messages)
        messages.append(ChatMessage("assistant", answer))
    return answer


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("what time is it", "It is 3:05 PM."),
        ("Please tell me what time it is.", "3:05 PM"),
        ("hello could you tell me the time please", "3:05 PM"),
        ("what day is it", "Saturday"),
        ("what day is it today", "Saturday"),
        ("what day is it to them", "Saturday"),
        ("what is the day to day", "Saturday"),
        ("what's today's date?", "November 21st, 2026"),
        ("what is the date today", "November 21st, 2026"),
        ("what day is tomorrow", "Sunday"),
        ("what day was yesterday", "Friday"),
        ("what month is it", "November"),
        ("what year is it", "2026"),
        ("is a morning or evening", "afternoon"),
        ("what is your name", "KITT"),
        ("one is your name", "KITT"),
        ("who are you", "rule-based"),
        ("are you a robot", "rule-based"),
        ("how are you", "very well"),
        ("how are you today", "very well"),
        ("hello are you", "very well"),
        ("hello old are you", "young"),
        ("hello are you there", "I can hear you"),
        ("thank you very much", "welcome"),
        ("sent you very much", "welcome"),
        ("thanks a lot", "welcome"),
        ("goodbye", "Goodbye"),
        ("see you later", "Goodbye"),
        ("what can you do", "arithmetic"),
        ("help me please", "arithmetic"),
        ("who made you", "Greenroom"),
        ("hear made you", "Greenroom"),
        ("where are you from", "participant"),
        ("hello", "Hello"),
        ("good morning", "Good morning"),
        ("hello can you hear me", "I can hear you"),
        ("what is seven times eight", "56"),
        ("what is seven times age", "56"),
        ("okay now what is twelve minus five", "7"),
        ("repeat after me the quick brown fox", "The quick brown fox."),
        ("please repeat after me it is a beautiful day outside", "It is a beautiful day outside."),
        ("shake after me the rain in spain", "The rain in spain."),
        ("say hello world", "Hello world."),
        ("can you say good morning everyone", "Good morning everyone."),
        ("repeat after me two plus two", "Two plus two."),
        ("count to five", "1, 2, 3, 4, 5."),
        ("count from three to one", "3, 2, 1."),
        ("what is the capital of france", "Paris"),
        ("how many days are there in a week", "7"),
        ("what is the meaning of life", "42"),
        ("how is the weather today", "weather"),
    ],
)
def test_answers(said, expected):
    assert expected.lower() in ask(said).lower()


@pytest.mark.parametrize(
    "said",
    [
        "who won the world cup",
        "the meeting starts at half past nine on monday",
        "tell me about the history of rome",
        "xyzzy",
    ],
)
def test_what_it_does_not_know_it_says_plainly(said):
    answer = ask(said)
    assert "I am a small rule-based brain" in answer and said in answer


def test_jokes_are_not_repeated():
    conversation = ["tell me a joke"] * 4
    assert len({ask(*conversation[: n + 1]) for n in range(4)}) == 4


def test_it_repeats_what_it_said():
    assert ask("what is two plus two", "say that again") == "I said: 2 plus 2 is 4."
    assert ask("pardon") == "I have not said anything yet."


def test_it_repeats_what_follows_a_full_stop_and_nothing_else():
    assert ask("Please repeat after me. The train leaves at nine.") == "The train leaves at nine."
    assert ask("Repeat after me... 1.5 is more than one.") == "1.5 is more than one."


def test_it_repeats_the_next_sentence_when_asked_to():
    assert ask("repeat after me", "cats and dogs are friends") == "Cats and dogs are friends."


def test_it_remembers_a_name_from_the_conversation():
    assert ask("my name is bob", "what is my name") == "Your name is Bob."
    assert "not told" in ask("what is my name")


async def test_it_streams_words():
    brain = RuleBrain(clock=lambda: NOW)
    deltas = [delta async for delta in brain.chat([ChatMessage("user", "what is seven times eight")])]
    assert len(deltas) > 2 and "".join(deltas) == "7 times 8 is 56."


def test_it_greets_when_nothing_was_said():
    assert "KITT" in RuleBrain().answer([])


def test_phrases_are_the_same_every_time_and_plain_words():
    phrases = RuleBrain.phrases()
    assert phrases == RuleBrain.phrases()
    assert all(word.replace("'", "").isalpha() for phrase in phrases for word in phrase.split())
