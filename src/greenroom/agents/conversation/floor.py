"""Who has the floor: the utterances under way, how much voice is in each, and whether one is only an echo of the agent.

The rule of the whole conversation is that sounds take nothing away: while somebody speaks the agent is silent, and only
words decide what becomes of what it was about to say.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

from greenroom.agents.conversation.playout import Playout
from greenroom.agents.transcriber import Transcriber, TranscriptionEvent

__all__ = ["Floor", "Utterance"]

LOOK_EVERY = 0.02
ECHO_DELAY = 0.5
"""Seconds after which a loudspeaker's sound has come back: network, jitter buffers and the room."""
ECHO_WORDS = 3
"""Fewer words are never taken for an echo: "the blue one" is an answer."""
ECHO_LIKENESS = 0.8


@dataclass(slots=True, eq=False)
class Utterance:
    """Something that is being said, from its first sound until it is known which words it had."""

    segment: str
    transcriber: Transcriber
    voiced: float = 0.0
    """Seconds of voice in it."""
    over: Playout | None = None
    """The agent's speech that it overlaps."""
    position: float = 0.0
    """Where that speech was when they met, in its seconds."""

    def meets(self, playout: Playout) -> None:
        self.over, self.position = playout, playout.position

    def is_echo(self, event: TranscriptionEvent) -> bool:
        """Whether these words are the agent's own, back from a loudspeaker.

        They are when the agent said just these, in this order, while they were heard, and when they ended with its speech.
        An answer may repeat the words of the question; it does not say them at the same time as the agent.
        """
        words = _words(event.text)
        if self.over is None or len(words) < ECHO_WORDS:
            return False
        silent = self.over.silent_since
        if silent is not None and event.speech_ended_at > silent + ECHO_DELAY:
            return False
        said = _words(self.over.between(max(0.0, self.position - ECHO_DELAY), self.over.position))
        blocks = SequenceMatcher(None, said, words, autojunk=False).get_matching_blocks()
        return sum(block.size for block in blocks) >= ECHO_LIKENESS * len(words)


class Floor:
    def __init__(self, interrupt_after: float, on_change: Callable[[], None]) -> None:
        """`on_change()`: somebody took the floor."""
        self._interrupt_after = interrupt_after
        self._on_change = on_change
        self._utterances: dict[str, Utterance] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def taken(self) -> bool:
        """Whether somebody speaks, or has spoken and it is not known yet what."""
        return any(self._counts(utterance) for utterance in self._utterances.values())

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        return tuple(self._utterances.values())

    def begin(self, segment: str, transcriber: Transcriber) -> Utterance:
        utterance = self._utterances[segment] = Utterance(segment, transcriber)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="floor")
        return utterance

    def get(self, segment: str) -> Utterance | None:
        return self._utterances.get(segment)

    def end(self, segment: str) -> None:
        self._utterances.pop(segment, None)

    async def aclose(self) -> None:
        self._utterances.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _counts(self, utterance: Utterance) -> bool:
        return utterance.voiced > 0 and utterance.voiced >= self._interrupt_after

    async def _watch(self) -> None:
        while self._utterances:
            for utterance in self._utterances.values():
                # Of an utterance that is over, the voice counted so far stays.
                if utterance.transcriber.segment == utterance.segment:
                    counted = self._counts(utterance)
                    utterance.voiced = max(utterance.voiced, utterance.transcriber.voiced)
                    if not counted and self._counts(utterance):
                        self._on_change()
            await asyncio.sleep(LOOK_EVERY)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+", text.lower())
