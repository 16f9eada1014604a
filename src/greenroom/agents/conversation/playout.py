"""Speech towards the room, with an account of what was heard of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["AudioSink", "Playout", "SpokenSentence"]

FRAME_MS = 20


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
    begin: float
    """Seconds of audio played before it, in this playout."""
    end: float
    complete: bool = False
    """All of its audio was handed over."""


class Playout:
    """One answer's audio. Sentences are announced with `begin`, their PCM follows by `push`."""

    def __init__(self, sink: AudioSink, sample_rate: int, make_frame: Callable[[bytes, int], Any]) -> None:
        """`make_frame(pcm, sample_rate)` builds the frame that the sink takes."""
        self._sink = sink
        self._rate = sample_rate
        self._make_frame = make_frame
        self._frame_bytes = sample_rate * FRAME_MS // 1000 * 2
        self._rest = bytearray()
        self._pushed = 0.0
        self._sentences: list[SpokenSentence] = []
        self._stopped_at: float | None = None

    @property
    def started(self) -> bool:
        """Whether any audio went out."""
        return self._pushed > 0

    @property
    def position(self) -> float:
        """Seconds of this answer that the listeners' side was given so far."""
        if self._stopped_at is not None:
            return self._stopped_at
        return max(0.0, self._pushed - self._sink.queued_duration)

    def begin(self, sentence: str) -> None:
        self._sentences.append(SpokenSentence(sentence, self._pushed, self._pushed))

    async def push(self, pcm: bytes) -> None:
        """More audio of the sentence announced last. Waits while the sink is full."""
        self._rest += pcm
        while len(self._rest) >= self._frame_bytes:
            frame = bytes(self._rest[: self._frame_bytes])
            del self._rest[: self._frame_bytes]
            await self._capture(frame)

    async def end(self) -> None:
        """The sentence is over: what is left of it goes out, filled up with silence to a whole frame."""
        if self._rest:
            frame = bytes(self._rest).ljust(self._frame_bytes, b"\0")
            self._rest.clear()
            await self._capture(frame)
        if self._sentences:
            self._sentences[-1].complete = True

    async def wait(self) -> None:
        """Return when all of it has been played."""
        await self._sink.wait_for_playout()

    def stop(self) -> None:
        """Be silent at once."""
        if self._stopped_at is None:
            self._stopped_at = self.position
            self._rest.clear()
            self._sink.clear_queue()

    def heard(self) -> str:
        """The text that was played so far; of a sentence in the middle, as many words as its time allows."""
        position = self.position
        out = []
        for sentence in self._sentences:
            length = sentence.end - sentence.begin
            if sentence.complete and position >= sentence.end - 0.05:
                out.append(sentence.text)
                continue
            words = sentence.text.split()
            # The length of an unfinished sentence is not known: twelve characters in a second are usual.
            expected = length if sentence.complete else max(length, len(sentence.text) / 12)
            if expected > 0 and position > sentence.begin:
                out.extend(words[: round(len(words) * min(1.0, (position - sentence.begin) / expected))])
            break
        return " ".join(out)

    async def _capture(self, frame: bytes) -> None:
        if self._stopped_at is not None:
            return
        self._pushed += len(frame) / 2 / self._rate
        if self._sentences:
            self._sentences[-1].end = self._pushed
        await self._sink.capture_frame(self._make_frame(frame, self._rate))
