"""A small rule-based brain: time and date, arithmetic, repeating, small talk. It says plainly that it is one.

It keeps no state of its own: everything it needs (a name given earlier, the last answer, which joke comes next) is read
from the conversation it is handed, as a language model would.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

from greenroom.agents.speech.protocols import ChatMessage
from greenroom.plugins.rules import facts
from greenroom.plugins.rules.arithmetic import solve
from greenroom.plugins.rules.intents import expected_phrases, match_intent

__all__ = ["RuleBrain"]

_HONEST = "I am a small rule-based brain, so I don't know that."
_CAN = "I can tell the time and the date, do arithmetic, repeat after you, and tell a joke."
_JOKES = (
    "Why did the packet cross the network? To get to the other side, twice.",
    "I would tell you a joke about U D P, but you might not get it.",
    "Why was six afraid of seven? Because seven eight nine.",
    "There are ten kinds of people: those who count in binary, and those who don't.",
    "What do you call a fake noodle? An impasta.",
    "Parallel lines have so much in common. It is a shame they will never meet.",
)
_FACTS = (
    "Honey never spoils.",
    "Sound travels about four times faster in water than in air.",
    "An octopus has three hearts.",
    "A day on Venus is longer than its year.",
)

_REPEAT = re.compile(
    r"^(?:(?:please|can you|could you|would you|will you|now|okay|and|hello|hey|kit)\s+)*"
    r"(?:please\s+)?(?:(?:repeat|say|speak|shake|shay|street|straight)\s+after\s+me|repeat(?:\s+the\s+words?)?|say(?:\s+the\s+words?)?)"
    # Some recognisers write a pause as the end of a sentence.
    r"(?:\s+please)?(?:[\s:,;]|\.+(?=\s))+(?P<what>.+)$",
    re.IGNORECASE,
)
_REPEAT_WHAT = re.compile(r"^(?:please\s+)?(?:repeat|say)\s+after\s+me\W*$", re.IGNORECASE)
_NOT_A_QUOTE = re.compile(r"^(?:that|it|this)(?: again)?(?: please)?\W*$|^(?:again|something)\b", re.IGNORECASE)
_MY_NAME = re.compile(r"\b(?:my name is|call me|i am called|i'm called)\s+(?!what\b)(?P<name>[A-Za-z]+)", re.IGNORECASE)
_COUNT = re.compile(r"\bcount (?:from (?P<from>.+?) )?(?:up )?to (?P<to>.+)$", re.IGNORECASE)
_ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


class RuleBrain:
    """`LLM` provider. `clock` gives the local time; `rng` the throws of dice."""

    def __init__(
        self,
        *,
        name: str = "KITT",
        clock: Callable[[], datetime] = datetime.now,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._rng = rng or random.Random()

    @staticmethod
    @functools.cache
    def phrases() -> tuple[str, ...]:
        """Sentences it understands, for a recogniser that wants to know what to expect."""
        return (*expected_phrases(), *facts.phrases())

    async def chat(self, messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        """Word by word, as a model streams."""
        for piece in re.findall(r"\S+\s*", self.answer(messages)):
            yield piece

    def answer(self, messages: Sequence[ChatMessage]) -> str:
        """The reply to the last user message."""
        asked = [message.content for message in messages if message.role == "user"]
        if not asked:
            return f"Hello, I am {self.name}. {_CAN}"
        text = asked[-1].strip()
        earlier = [message for message in messages if message.role == "assistant"]
        before = asked[-2] if len(asked) > 1 else ""
        if before and _REPEAT_WHAT.match(before.strip()):
            return _sentence(text)
        if _REPEAT_WHAT.match(text):
            return "I am listening. What shall I repeat?"
        repeat = _REPEAT.match(text)
        if repeat and not _NOT_A_QUOTE.match(repeat["what"]):
            return _sentence(repeat["what"])
        if (name := _MY_NAME.search(text)) is not None:
            return f"Nice to meet you, {name['name'].capitalize()}. I am {self.name}."
        if (counted := self._count(text)) is not None:
            return counted
        if (fact := facts.look_up(text)) is not None:
            return fact
        intent = match_intent(text, 0.95)
        if intent is None and (result := solve(text)) is not None:
            return result.sentence()
        intent = intent or match_intent(text)
        if intent is None:
            return self._unknown(text)
        return self._reply(intent, text, asked, earlier)

    def _unknown(self, text: str) -> str:
        if len(text.split()) < 2:
            return f"I heard: {text or 'nothing'}. {_HONEST} {_CAN}"
        return f"I heard: {text.rstrip('.?!')}. {_HONEST} {_CAN}"

    def _reply(self, intent: str, text: str, asked: Sequence[str], earlier: Sequence[ChatMessage]) -> str:
        spoken = getattr(self, f"_say_{intent}", None)
        if spoken is not None:
            return str(spoken(text, asked, earlier))
        return _ANSWERS[intent].format(name=self.name, can=_CAN)

    def _say_time(self, *_: object) -> str:
        return f"It is {_clock_time(self._clock())}."

    def _say_date(self, *_: object) -> str:
        return f"Today is {_date(self._clock())}."

    _say_day = _say_date

    def _say_tomorrow(self, *_: object) -> str:
        return f"Tomorrow is {_date(self._clock() + timedelta(days=1))}."

    def _say_yesterday(self, *_: object) -> str:
        return f"Yesterday was {_date(self._clock() - timedelta(days=1))}."

    def _say_month(self, *_: object) -> str:
        return f"It is {self._clock():%B} {self._clock().year}."

    def _say_year(self, *_: object) -> str:
        return f"It is the year {self._clock().year}."

    def _say_daypart(self, *_: object) -> str:
        now = self._clock()
        part = (
            "night"
            if now.hour < 5 or now.hour >= 22
            else "morning"
            if now.hour < 12
            else "afternoon"
            if now.hour < 18
            else "evening"
        )
        return f"It is {part}: {_clock_time(now)}."

    def _say_hello(self, text: str, asked: Sequence[str], _: object) -> str:
        if "how are you" in text.lower():
            return "Hello. I am very well, thank you. How can I help you?"
        greeting = next((g for g in ("good morning", "good afternoon", "good evening") if g in text.lower()), "hello")
        again = " again" if len(asked) > 1 and greeting == "hello" else ""
        return f"{greeting.capitalize()}{again}. I am {self.name}. How can I help you?"

    def _say_joke(self, _text: str, _asked: object, earlier: Sequence[ChatMessage]) -> str:
        told = {message.content for message in earlier}
        return next((joke for joke in _JOKES if joke not in told), _JOKES[len(earlier) % len(_JOKES)])

    def _say_story(self, _text: str, _asked: object, earlier: Sequence[ChatMessage]) -> str:
        return f"Here is something I know. {_FACTS[len(earlier) % len(_FACTS)]}"

    def _say_again(self, _text: str, _asked: object, earlier: Sequence[ChatMessage]) -> str:
        return f"I said: {earlier[-1].content}" if earlier else "I have not said anything yet."

    def _say_myname(self, _text: str, asked: Sequence[str], _: object) -> str:
        names = [found["name"] for said in asked if (found := _MY_NAME.search(said))]
        return f"Your name is {names[-1].capitalize()}." if names else "You have not told me your name yet."

    def _say_coin(self, *_: object) -> str:
        return f"It is {self._rng.choice(('heads', 'tails'))}."

    def _say_dice(self, text: str, *_: object) -> str:
        if "two" in text:
            first, second = self._rng.randint(1, 6), self._rng.randint(1, 6)
            return f"A {first} and a {second}."
        return f"It is a {self._rng.randint(1, 6)}."

    def _count(self, text: str) -> str | None:
        found = _COUNT.search(text)
        if found is None:
            return None
        first = solve(f"{found['from']} plus 0") if found["from"] else solve("1 plus 0")
        last = solve(f"{found['to'].removesuffix(' please')} plus 0")
        if first is None or last is None or first.value is None or last.value is None:
            return None
        low, high = int(first.value), int(last.value)
        if not 0 < abs(high - low) <= 30:
            return "I would rather not count that far."
        step = 1 if high > low else -1
        return ", ".join(str(n) for n in range(low, high + step, step)) + "."


_ANSWERS = {
    "name": "My name is {name}. I am a small rule-based brain with a voice.",
    "identity": "I am {name}, a small rule-based brain in this call. I am a program, not a person.",
    "how": "I am very well, thank you. How are you?",
    "fine": "I am glad to hear that. What can I do for you?",
    "thanks": "You are welcome.",
    "bye": "Goodbye. It was nice talking to you.",
    "abilities": "{can}",
    "maker": "I was made by the Greenroom project. I am one of its examples.",
    "home": "I live in this room's server, as a software participant.",
    "age": "I was started a moment ago, so I am very young.",
    "hearing": "Yes, I can hear you loud and clear.",
    "stop": "All right.",
    "feelings": "Thank you, that is kind of you.",
    "wrong": "I am sorry. I am only a small rule-based brain. Please say it again in other words.",
    "yes": "All right. What would you like to know?",
    "sorry": "No problem at all.",
    "weather": "I am a small rule-based brain and cannot see the weather. Looking out of the window may help.",
    "meaning": "42, I have heard.",
    "song": "I cannot sing. You would thank me for not trying.",
    "language": "I only speak English.",
    "likes": "I am a small rule-based brain, so I have no likes, but I enjoy arithmetic.",
}


def _clock_time(now: datetime) -> str:
    return f"{now.hour % 12 or 12}:{now.minute:02d} {'AM' if now.hour < 12 else 'PM'}"


def _date(day: datetime) -> str:
    return f"{day:%A}, {day:%B} {day.day}{_ORDINALS.get(day.day, 'th')}, {day.year}"


def _sentence(text: str) -> str:
    text = text.strip().strip("\"'")
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"
