"""Speech towards the room, with an account of what was heard of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from greenroom.agents.speech.sentences import join

__all__ = ["AudioSink", "Playout", "SpokenSentence"]

FRAME_MS = 20
USUAL_PACE = 12.0
"""Characters in a second of speech, as long as this voice's own pace is not known."""
KEPT_FRAMES = 250
"""Frames that may be played again after a pause (5 s): more than any queue of ours holds."""


class AudioSink(Protocol):
    """The part of `rtc.AudioSource` that is needed here."""

    @property
    def queued_duration(self) -> float: ...
    async def capture_frame(self, frame: Any) -> None: ...
    async def wait_for_playout(self) -> None: ...
    def clear_queue(self) -> None: ...


@dataclass(slots=True)
class SpokenSentence:
    text: str
    begin: float = 0.0
    """Seconds of audio played before it, in this playout."""
    end: float = 0.0
    complete: bool = False
    """All of its audio was handed over."""
    audio: float = 0.0
    """Seconds that the synthesiser made of it so far; usually well ahead of what is played."""
    whole: bool = False
    """The synthesiser is done with it."""


class Playout:
    """One answer's audio. Sentences are announced with `begin`, their PCM follows by `push`.

    `pause` silences it at once, `resume` goes on with the very sample that was not heard any more.
    """

    def __init__(self, sink: AudioSink, sample_rate: int, make_frame: Callable[[bytes, int], Any]) -> None:
        """`make_frame(pcm, sample_rate)` builds the frame that the sink takes."""
        self._sink = sink
        self._rate = sample_rate
        self._make_frame = make_frame
        self._frame_bytes = sample_rate * FRAME_MS // 1000 * 2
        self._rest = bytearray()
        self._todo: deque[bytes] = deque()
        self._sent: deque[bytes] = deque(maxlen=KEPT_FRAMES)
        self._pushed = 0.0
        self._sentences: list[SpokenSentence] = []
        self._stopped_at: float | None = None
        self._open = asyncio.Event()
        self._open.set()
        self.silent_since: float | None = None
        """`time.monotonic()` since when nothing is heard any more; None while it sounds, or before it does."""

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    @property
    def position(self) -> float:
        """Seconds of this answer that the listeners' side was given so far."""
        if self._stopped_at is not None:
            return self._stopped_at
        return max(0.0, self._pushed - self._sink.queued_duration)

    def begin(self, sentence: SpokenSentence) -> None:
        sentence.begin = sentence.end = self._pushed
        self._sentences.append(sentence)

    async def push(self, pcm: bytes) -> None:
        """More audio of the sentence announced last. Waits while the sink is full, or this is paused."""
        self._rest += pcm
        while len(self._rest) >= self._frame_bytes:
            self._todo.append(bytes(self._rest[: self._frame_bytes]))
            del self._rest[: self._frame_bytes]
            await self._drain()

    async def end(self) -> None:
        """The sentence is over: what is left of it goes out, filled up with silence to a whole frame."""
        if self._rest:
            self._todo.append(bytes(self._rest).ljust(self._frame_bytes, b"\0"))
            self._rest.clear()
        await self._drain()
        if self._sentences and self._stopped_at is None:
            self._sentences[-1].complete = True

    async def wait(self) -> None:
        """Return when all of it has been played."""
        while True:
            await self._drain()
            await self._sink.wait_for_playout()
            # The sink also runs empty because of a pause.
            if self._stopped_at is not None or (self._open.is_set() and not self._todo):
                break
        if self.silent_since is None:
            self.silent_since = time.monotonic()

    def pause(self) -> None:
        """Be silent at once, and keep what was not heard yet. Twice is fine."""
        if self._stopped_at is not None or self.paused:
            return
        self._open.clear()
        self.silent_since = time.monotonic()
        unheard = self._sink.queued_duration
        if unheard <= 0:
            return
        self._sink.clear_queue()
        while self._sent and unheard > 0:
            frame = self._sent.pop()
            self._todo.appendleft(frame)
            self._pushed -= self._seconds(frame)
            unheard -= self._seconds(frame)

    def resume(self) -> None:
        if self._stopped_at is None and self.paused:
            self.silent_since = None
            self._open.set()

    def stop(self) -> None:
        """Be silent at once, for good."""
        if self._stopped_at is None:
            self._stopped_at = self.position
            self.silent_since = self.silent_since or time.monotonic()
            self._rest.clear()
            self._todo.clear()
            self._sink.clear_queue()
            self._open.set()

    def heard(self) -> str:
        """The text that was played so far; of a sentence in the middle, as much as its time allows."""
        return self.between(0.0, self.position)

    def between(self, begin: float, end: float) -> str:
        """The text that is played from `begin` to `end` seconds of this answer, as near as a steady pace tells."""
        out = []
        for sentence in self._sentences:
            length = self._length(sentence)
            if sentence.complete and end >= sentence.end - 0.05 and begin <= sentence.begin:
                out.append(sentence.text)
                continue
            if end <= sentence.begin or length <= 0:
                continue
            first, last = (min(1.0, max(0.0, (at - sentence.begin) / length)) for at in (begin, end))
            out.append(_part(sentence.text, first, last))
        return join(filter(None, out))

    def _length(self, sentence: SpokenSentence) -> float:
        """Seconds that the sentence takes from beginning to end."""
        if sentence.complete:
            return sentence.end - sentence.begin
        known = max(sentence.audio, sentence.end - sentence.begin)
        if sentence.whole:
            return known
        told = [other for other in self._sentences if other.complete and other.end > other.begin]
        seconds = sum(other.end - other.begin for other in told)
        pace = sum(len(other.text) for other in told) / seconds if seconds else USUAL_PACE
        return max(known, len(sentence.text) / pace)

    def _seconds(self, frame: bytes) -> float:
        return len(frame) / 2 / self._rate

    async def _drain(self) -> None:
        while self._todo:
            await self._open.wait()
            if self._stopped_at is not None or not self._todo:
                return
            frame = self._todo.popleft()
            self._pushed += self._seconds(frame)
            self._sent.append(frame)
            if self._sentences:
                last = self._sentences[-1]
                last.end = max(last.end, self._pushed)
            await self._sink.capture_frame(self._make_frame(frame, self._rate))


def _part(text: str, first: float, last: float) -> str:
    """What lies between two shares (0..1) of a text: words, or characters where a script writes no spaces."""
    words = text.split()
    if len(words) < 2 and not text.isascii():
        return text[round(len(text) * first) : round(len(text) * last)]
    return " ".join(words[round(len(words) * first) : round(len(words) * last)])
