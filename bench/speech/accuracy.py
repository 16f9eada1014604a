"""Words that recognisers get wrong, and what a second of speech costs: people, and synthetic calls under bad conditions."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..figures import say
from ..hearing import Heard, Spoken, recognisers, recordings, write_down
from ..report import Report
from ..target import Options, TargetError
from .conditions import SENTENCES, clean, conditions
from .peer import PIPECAT, Peer, environment, peer

__all__ = ["people", "synthetic"]

STEP = 7
"""Every so many recordings are those that slow recognisers get too."""
SLOW = "pocketsphinx"
SLOW_SECONDS = 35.0
"""After which no more recordings are given to it: on a busy machine it takes many times as long as it hears."""
PEER_SECONDS = 60.0
PEER_CONDITION_SECONDS = 45.0
"""The same for a peer: with all recordings of people, and with each condition."""
SLOW_CONDITIONS = ("clean",)
QUICK_SENTENCES = 6


async def people(report: Report, options: Options) -> None:
    audio = recordings()
    if options.quick:
        audio = audio[::10]
    some = set(range(0, len(audio) - 1, STEP)) | {len(audio) - 1}
    every, few = f"people, all {len(audio)} recordings", f"people, {len(some)} of them"
    for name, make in recognisers().items():
        say(f"speech: {name} hears people")
        given = [number for number in range(len(audio)) if name != SLOW or number in some]
        within = SLOW_SECONDS if name == SLOW else math.inf
        heard = await _heard(write_down(make(), [audio[number] for number in given]), within)
        if name == SLOW:
            report.say(f"{every}: words wrong", name, "too slow for all")
        else:
            _words_wrong(report, every, name, heard, len(audio))
            _cost(report, every, name, heard)
        rest = [one for number, one in zip(given, heard, strict=False) if number in some]
        _words_wrong(report, few, name, rest, len(some))
        _cost(report, few, name, rest)
    if environment() is None:
        report.say(f"{few}: words wrong", PIPECAT.name, "not installed")
        return
    async with peer(PIPECAT) as other:
        say(f"speech: {other.name} hears people")
        heard = await _heard(_peer_writes(other, [audio[number] for number in sorted(some)]), PEER_SECONDS)
        _words_wrong(report, few, PIPECAT.name, heard, len(some))
        _cost(report, few, PIPECAT.name, heard)


async def synthetic(report: Report, options: Options) -> None:
    say("speech: synthetic calls are spoken")
    made = await conditions(await clean(SENTENCES[:QUICK_SENTENCES] if options.quick else SENTENCES))
    for name, make in recognisers().items():
        for condition, audio in made.items():
            if name == SLOW and condition not in SLOW_CONDITIONS:
                continue
            say(f"speech: {name} hears: {condition}")
            heard = await _heard(write_down(make(), audio), SLOW_SECONDS if name == SLOW else math.inf)
            _words_wrong(report, condition, name, heard, len(audio))
    if environment() is None:
        report.say("clean: words wrong", PIPECAT.name, "not installed")
        return
    async with peer(PIPECAT) as other:
        for condition, audio in made.items():
            say(f"speech: {other.name} hears: {condition}")
            heard = await _heard(_peer_writes(other, audio), PEER_CONDITION_SECONDS)
            _words_wrong(report, condition, PIPECAT.name, heard, len(audio))


async def _heard(results: AsyncGenerator[Heard, None], within: float = math.inf) -> list[Heard]:
    """All of them, or those that come in so many seconds."""
    heard = []
    began = time.monotonic()
    async with aclosing(results):
        async for one in results:
            heard.append(one)
            if time.monotonic() - began > within:
                break
    return heard


async def _peer_writes(other: Peer, audio: Sequence[Spoken]) -> AsyncGenerator[Heard, None]:
    for spoken in audio:
        answer = await other.ask("write", spoken.pcm)
        yield Heard.of(spoken, answer["text"], answer["took"])


def _words_wrong(report: Report, what: str, name: str, heard: list[Heard], given: int) -> None:
    if not heard:
        raise TargetError(f"{name} was given nothing to hear")
    wrong, words = sum(one.wrong for one in heard), sum(one.words for one in heard)
    if len(heard) < given:
        report.note(f"{name}, {what}: {len(heard)} of {given} only, for want of time")
    # A whole utterance that is missing is another fault than a word that was misheard.
    empty = sum(not one.text for one in heard)
    detail = {"utterances": len(heard), "words": words, "wrong": wrong, "without_text": empty}
    report.add(f"{what}: words wrong", name, 100 * wrong / words, "%", detail=detail)
    if empty:
        report.note(f"{name}, {what}: no text for {empty} of {len(heard)} utterances")


def _cost(report: Report, what: str, name: str, heard: list[Heard]) -> None:
    cost = sum(one.took for one in heard) / sum(one.seconds for one in heard)
    report.add(f"{what}: time per second of speech", name, cost, "s")
