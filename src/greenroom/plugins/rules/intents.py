"""What people say to a small assistant, by meaning. The same phrases teach the recogniser what to expect and the brain what
was meant, so one list serves both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from difflib import SequenceMatcher

from greenroom.agents.speech.numbers import TENS, UNITS, tokenize

__all__ = ["INTENTS", "expected_phrases", "match_intent"]

INTENTS: dict[str, tuple[str, ...]] = {
    "time": (
        "what time is it", "what time is it now", "what is the time", "what's the time", "can you tell me the time",
        "could you tell me what time it is", "tell me the time", "do you know what time it is", "tell me what time it is",
        "what is the current time", "i would like to know the time", "give me the time", "what time do you have",
        "how late is it",
    ),
    "date": (
        "what is today's date", "what is the date", "what is the date today", "what's the date", "what date is it",
        "what date is it today", "tell me the date", "what is the current date", "what's today's date",
        "which date is it today",
    ),
    "day": (
        "what day is it", "what day is it today", "what day of the week is it", "which day is it", "which day is it today",
        "what is today", "what weekday is it", "which day of the week is it today", "what is the day today",
        "tell me what day it is",
    ),
    "tomorrow": ("what day is tomorrow", "what day is it tomorrow", "what is tomorrow's date", "what is the date tomorrow",
                 "which day is tomorrow", "what day will it be tomorrow"),
    "yesterday": ("what day was yesterday", "what day was it yesterday", "what was yesterday's date",
                  "which day was yesterday", "what was the date yesterday"),
    "month": ("what month is it", "which month is it", "what is the month", "what month are we in",
              "what is the current month"),
    "year": ("what year is it", "which year is it", "what is the year", "what year are we in", "what is the current year",
             "what year is this"),
    "daypart": ("is it morning or evening", "is it day or night", "is it morning", "is it evening", "is it afternoon",
                "what part of the day is it"),
    "name": ("what is your name", "what's your name", "do you have a name", "tell me your name", "what are you called",
             "what should i call you", "what shall i call you", "may i know your name", "your name please"),
    "identity": (
        "who are you", "what are you", "are you a robot", "are you a human", "are you real", "are you human",
        "are you a person", "are you a computer", "are you a machine", "are you intelligent", "are you alive",
        "introduce yourself", "tell me about yourself", "are you an ai", "what kind of assistant are you",
        "are you an assistant", "who am i talking to", "are you smart",
    ),
    "how": ("how are you", "how are you today", "how are you doing", "how do you do", "how is it going", "how do you feel",
            "are you okay", "how have you been", "how are things", "how was your day", "are you well",
            "how are you feeling today"),
    "how_misheard": ("hello are you", "hallow are you", "i know are you", "hell are you", "her are you", "power you",
                     "hello are you today", "hello are you doing", "hello do you do"),
    "age_misheard": ("hello old are you", "count old are you", "tell old are you", "can old are you"),
    "fine": ("i am fine", "i am fine thank you", "i am good", "i am well", "i am very well thank you", "i am doing well",
             "i'm fine thanks", "i am okay"),
    "thanks": ("thank you", "thank you very much", "thanks", "thanks a lot", "thank you so much", "many thanks",
               "that is very kind", "thank you for your help", "thank you for the answer"),
    "joke": ("tell me a joke", "do you know a joke", "make me laugh", "tell me another joke", "another joke please",
             "can you tell me a joke", "could you tell me a joke please", "say something funny", "do you know any jokes",
             "i would like to hear a joke", "tell us a joke", "one more joke"),
    "bye": ("goodbye", "bye", "bye bye", "see you later", "good night", "see you soon", "see you tomorrow", "farewell",
            "i have to go", "i must go now", "thank you goodbye", "have a nice day", "that is all for today"),
    "abilities": (
        "what can you do", "what do you do", "how can you help me", "can you help me", "help", "help me please",
        "what can i ask you", "what do you know", "what are you able to do", "what can i say", "what are your skills",
        "i need help", "tell me what you can do",
    ),
    "maker": ("who made you", "who built you", "who created you", "who is your maker", "who wrote you", "who programmed you",
              "where do you come from", "who is your creator", "who developed you", "who designed you"),
    "home": ("where are you from", "where do you live", "where are you", "where were you born", "where is your home"),
    "age": ("how old are you", "what is your age", "when were you born", "when is your birthday"),
    "hello": ("hello", "hello there", "hi", "hi there", "hey", "good morning", "good afternoon", "good evening",
              "nice to meet you", "greetings", "hello kit", "hello computer", "hello assistant", "hello again",
              "hello how are you", "pleased to meet you"),
    "hearing": ("can you hear me", "are you there", "do you hear me", "is anybody there", "hello can you hear me",
                "do you understand me", "are you listening", "is this working", "testing one two three", "testing",
                "can you understand me", "are you still there", "is anyone there", "this is a test", "hello are you there"),
    "stop": ("stop", "stop it", "stop talking", "be quiet", "shut up", "never mind", "forget it", "silence please",
             "please stop", "wait", "wait a minute", "quiet please", "stop stop stop", "hold on"),
    "again": ("what did you say", "can you repeat that", "say that again", "say it again", "repeat that please",
              "repeat that", "please repeat", "pardon", "pardon me", "i did not understand", "once more please",
              "could you say that again", "come again", "can you say that again please", "excuse me", "i did not hear you"),
    "myname": ("what is my name", "do you know my name", "who am i", "do you remember my name"),
    "feelings": ("i love you", "you are funny", "that is great", "you are great", "well done", "good job", "very good",
                 "that is right", "you are right", "that is correct", "that was funny", "i like you", "nice", "great",
                 "excellent", "you are very clever", "that is nice", "perfect", "wonderful"),
    "wrong": ("that is wrong", "you are wrong", "are you sure", "that is not right", "that is not what i said", "no",
              "that is not true", "i do not think so", "i did not say that"),
    "yes": ("yes", "yes please", "okay", "all right", "sure", "of course", "no thank you", "okay then", "i see"),
    "sorry": ("sorry", "i am sorry", "excuse me please", "i apologize"),
    "weather": ("what is the weather like", "how is the weather today", "what is the weather today", "will it rain today",
                "is it raining", "what is the weather forecast", "is it going to rain tomorrow", "is it cold outside",
                "what is the temperature outside", "how warm is it"),
    "meaning": ("what is the meaning of life", "what is the answer to everything", "why are we here",
                "what is the answer to life the universe and everything"),
    "coin": ("flip a coin", "toss a coin", "heads or tails", "throw a coin", "can you flip a coin"),
    "dice": ("roll a die", "roll a dice", "roll the dice", "throw a die", "give me a random number", "pick a number",
             "tell me a random number", "roll two dice"),
    "song": ("sing a song", "can you sing", "sing me a song", "sing for me", "please sing something"),
    "story": ("tell me a story", "tell me something", "tell me something interesting", "tell me a fact",
              "do you know a story", "surprise me", "say something", "tell me something about yourself"),
    "language": ("what language do you speak", "do you speak english", "what languages do you speak", "do you speak french",
                 "do you speak german", "can you speak spanish", "which languages do you know"),
    "likes": ("do you like music", "do you like me", "what do you like", "what is your favorite color",
              "do you have friends", "what is your favorite food", "do you have feelings", "do you sleep", "do you eat",
              "what is your favorite number", "do you have a favorite song"),
}  # fmt: skip

_LEADS = ("hello", "hi", "hey", "okay", "please", "well", "so", "and", "now", "then", "um", "uh", "oh", "kit", "computer",
          "assistant", "sir", "thanks", "just", "also", "but")  # fmt: skip
_SAY = ("repeat after me", "say after me", "please say", "say", "repeat", "can you say", "please repeat after me",
        "can you repeat after me", "could you say")  # fmt: skip
_SAID = ("hello world", "good morning everyone", "the quick brown fox jumps over the lazy dog", "welcome to the meeting",
         "the rain in spain stays mainly in the plain", "nice to meet you", "testing one two three", "i love you",
         "good morning", "hello everyone", "happy birthday", "it is a beautiful day", "my name is", "thank you")  # fmt: skip


def _contract(phrase: str) -> str:
    for long, short in (("what is", "what's"), ("i am", "i'm"), ("that is", "that's"), ("who is", "who's")):
        if phrase.startswith(long + " "):
            return short + phrase[len(long) :]
    return phrase


_MISHEARD = "_misheard"
"""Intents with this ending are what recognisers write for the intent before it: matched, but never expected."""


def _expand(words: list[str]) -> list[str]:
    return " ".join(words).replace("'s", " is").replace("'m", " am").split()


_PHRASES = [
    (intent.removesuffix(_MISHEARD), phrase, _expand(tokenize(phrase)))
    for intent, phrases in INTENTS.items()
    for phrase in phrases
]
_WEIGHT_SMALL = frozenset("a an the is it are do you i me to of my your please can could would that and be".split())


def _similarity(said: list[str], phrase: list[str]) -> float:
    """0..1: how well the words agree, in order, weighing content words double and near-spellings half."""
    matched = total = 0.0
    for tag, i0, i1, j0, j1 in SequenceMatcher(None, said, phrase, autojunk=False).get_opcodes():
        left, right = said[i0:i1], phrase[j0:j1]
        weight = sum(1.0 if word in _WEIGHT_SMALL else 2.0 for word in (*left, *right))
        total += weight
        if tag == "equal":
            matched += weight
        elif tag == "replace":
            ratio = SequenceMatcher(None, " ".join(left), " ".join(right), autojunk=False).ratio()
            matched += weight * max(0.0, ratio - 0.3)
    return matched / total if total else 0.0


def match_intent(text: str, threshold: float = 0.59) -> str | None:
    """The intent whose phrases come closest to what was said, or None when none comes close."""
    words = _expand(tokenize(text))
    exact = next((intent for intent, _, tokens in _PHRASES if tokens == words), None)
    if exact is not None:
        return exact
    while len(words) > 2 and words[0] in _LEADS:
        words = words[1:]
    while len(words) > 2 and words[-1] in ("please", "now", "today", "then", "kit", "thanks", "sir"):
        words = words[:-1]
    best, best_score = None, threshold
    for intent, _, tokens in _PHRASES:
        if abs(len(tokens) - len(words)) > 3:
            continue
        if words == tokens:
            return intent
        if not set(tokens) & set(words):
            continue
        score = _similarity(words, tokens)
        if score > best_score:
            best, best_score = intent, score
    return best


def expected_phrases(count: int = 5_000, seed: int = 7) -> Iterator[str]:
    """Sentences to expect, for a recogniser: every intent, alone and with the small words around it, and calculations
    drawn at random from the ways of saying them (the same ones for the same seed)."""
    rng = random.Random(seed)
    for intent, phrases in INTENTS.items():
        if intent.endswith(_MISHEARD):
            continue
        for phrase in phrases:
            yield from [phrase] * 8
            yield _contract(phrase)
            yield f"{phrase} please"
            yield f"{rng.choice(_LEADS)} {phrase}"
            yield f"please {phrase}"
    for lead in _SAY:
        for said in _SAID:
            yield f"{lead} {said}"
    for _ in range(count):
        yield _calculation(rng)


def _number(rng: random.Random) -> str:
    units, tens = list(UNITS), list(TENS)
    draw = rng.random()
    if draw < 0.42:
        return rng.choice(units[:10])
    if draw < 0.58:
        return rng.choice(units[10:])
    if draw < 0.68:
        return rng.choice(tens)
    two_digits = f"{rng.choice(tens)} {rng.choice(units[1:10])}"
    if draw < 0.84:
        return two_digits
    if draw < 0.96:
        hundreds = f"{rng.choice(['a', 'one', *units[1:10]])} hundred"
        rest = rng.choice(["", rng.choice(units[1:10]), rng.choice(units[10:]), rng.choice(tens), two_digits])
        return f"{hundreds} {rng.choice(['and', '']) if rest else ''} {rest}"
    thousands = f"{rng.choice(['a', *units[1:13]])} thousand"
    return f"{thousands} {rng.choice(units[1:10])} hundred" if rng.random() < 0.3 else thousands


_ASK = ("what is", "what is", "what is", "what's", "how much is", "how much is", "calculate", "compute", "can you tell me what",
        "tell me what", "please tell me what is", "what do you get for", "can you calculate", "could you compute",
        "i would like to know what", "do you know what", "please calculate", "tell me", "")  # fmt: skip
_OPERATORS = ("plus", "minus", "times", "divided by", "multiplied by")


def _calculation(rng: random.Random) -> str:
    n = [_number(rng) for _ in range(3)]
    rare = rng.choice(("over", "modulo", "less", "to the power of", "and"))
    operator = rng.choice(_OPERATORS)
    body = rng.choices(
        (
            f"{n[0]} {operator} {n[1]}",
            f"{n[0]} {operator} {n[1]} {rng.choice(_OPERATORS)} {n[2]}",
            f"{n[0]} {rare} {n[1]}",
            f"the square root of {n[0]}",
            f"{n[0]} {rng.choice(['squared', 'cubed'])}",
            f"{n[0]} percent of {n[1]}",
            f"{rng.choice(['half of', 'a third of', 'a quarter of', 'twice', 'double', 'the cube root of'])} {n[0]}",
            f"the {rng.choice(['sum of', 'product of', 'difference between'])} {n[0]} and {n[1]}",
        ),
        (60, 8, 8, 8, 5, 6, 4, 4),
    )[0]
    if rng.random() < 0.12:
        verb, joint = rng.choice((("add", "and"), ("add", "to"), ("subtract", "from"), ("multiply", "by"),
                                  ("divide", "by"), ("multiply", "and")))  # fmt: skip
        body = f"{verb} {n[0]} {joint} {n[1]}"
        return " ".join(f"{rng.choice(['', '', 'please', 'can you', 'could you'])} {body}".split())
    ask = rng.choice(_ASK)
    tail = " is" if ask.endswith("what") else " equal to" if rng.random() < 0.03 else ""
    return " ".join(f"{ask} {body}{tail}".split())
