"""Speech on an audio track as events: talking started, partial texts, the final text, talking finished."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from greenroom.agents.speech.audio_input import pcm_16k
from greenroom.agents.speech.endpointing import FRAME_SECONDS, Endpointer, EndpointingOptions, SpeechEdge
from greenroom.agents.speech.protocols import (
    STT,
    VAD,
    VAD_FRAME_SAMPLES,
    VAD_SAMPLE_RATE,
    ProviderError,
    STTStream,
    VADStream,
)
from greenroom.agents.speech.providers import default_stt, default_vad

__all__ = [
    "EVENT_TYPE_FINAL",
    "EVENT_TYPE_PARTIAL",
    "EVENT_TYPE_TALKING_FINISHED",
    "EVENT_TYPE_TALKING_STARTED",
    "EventType",
    "Transcriber",
    "TranscriptionEvent",
]

logger = logging.getLogger("greenroom.transcriber")

FRAME_BYTES = VAD_FRAME_SAMPLES * 2
GAP = 0.12
"""Seconds without audio, in the middle of an utterance, after which silence is assumed. Senders stop sending when there
is nothing to say or when they mute, so the silence that ends an utterance may never arrive."""
MAX_WAITING_EVENTS = 1_000


class EventType(enum.StrEnum):
    TALKING_STARTED = "talking_started"
    PARTIAL = "partial"
    FINAL = "final"
    TALKING_FINISHED = "talking_finished"


EVENT_TYPE_TALKING_STARTED = EventType.TALKING_STARTED
EVENT_TYPE_PARTIAL = EventType.PARTIAL
EVENT_TYPE_FINAL = EventType.FINAL
EVENT_TYPE_TALKING_FINISHED = EventType.TALKING_FINISHED


@dataclass(frozen=True, slots=True)
class TranscriptionEvent:
    type: EventType
    text: str
    """The whole utterance so far; the final text with FINAL and TALKING_FINISHED; empty with TALKING_STARTED."""
    time_seconds: float
    """When, in seconds of this track's audio: the beginning of the speech with TALKING_STARTED, its end with FINAL and
    TALKING_FINISHED, the newest audio with PARTIAL."""
    segment_id: str
    """The same for all events of one utterance."""
    speech_ended_at: float = 0.0
    """`time.monotonic()` at which the last voiced audio had arrived (FINAL and TALKING_FINISHED)."""
    endpoint_at: float = 0.0
    """`time.monotonic()` at which the silence was judged to be the end."""
    error: str = ""
    """Why there is no text, when recognition failed."""


Callback = Callable[[TranscriptionEvent], Awaitable[None] | None]
_running: set[Transcriber] = set()


class Transcriber:
    """Listens to one audio track.

        transcriber = Transcriber(audio_track=track, callback=on_event)
        transcriber.start()

    or, without a callback, `async for event in transcriber: ...`, which starts it and ends when the track ends.

    Args:
        audio_track: a subscribed audio track, or an async iterable of mono int16 chunks at 16 kHz.
        callback: called in the event loop for every event; may be `async`. What it raises is logged.
        stt, vad: providers; the defaults of `speech.providers` otherwise.
        endpointing: when an utterance begins and ends.

    Raises:
        MissingProvider: nothing is installed that could do it; the text says what to install.
    """

    Event = TranscriptionEvent

    def __init__(
        self,
        audio_track: Any,
        callback: Callback | None = None,
        *,
        stt: STT | None = None,
        vad: VAD | None = None,
        endpointing: EndpointingOptions | None = None,
    ) -> None:
        self._audio = audio_track
        self._callback = callback
        self._stt = stt or default_stt()
        self._vad: VADStream = (vad or default_vad()).stream()
        self._endpointer = Endpointer(endpointing)
        self._options = self._endpointer.options
        self._stream: STTStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._events: asyncio.Queue[TranscriptionEvent | None] | None = None
        self._buffer = bytearray()
        self._pre_roll: deque[bytes] = deque(maxlen=max(1, round(self._options.pre_roll / FRAME_SECONDS)))
        self._samples = 0
        self._segment = ""
        self._text = ""
        self._last_audio_at = 0.0
        self._voiced_at = 0.0
        self._voiced_seconds = 0.0

    @property
    def talking(self) -> bool:
        """Whether an utterance is under way."""
        return self._endpointer.speaking

    @property
    def pausing(self) -> bool:
        """Whether the utterance under way has fallen silent for a moment."""
        return self._endpointer.paused

    def start(self) -> Transcriber:
        """Begin to listen. Must be called in a running event loop. Twice is fine."""
        if self._task is None:
            self._stream = self._stt.stream(self._on_partial)
            self._task = asyncio.create_task(self._run(), name="transcriber")
            self._task.add_done_callback(self._ended)
            # Event loops hold tasks weakly, and programs need not keep what they started.
            _running.add(self)
        return self

    def _ended(self, task: asyncio.Task[None]) -> None:
        _running.discard(self)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a transcriber stopped: %r", error, exc_info=error)

    async def wait(self) -> None:
        """Return when the track has ended and every event has been delivered."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def aclose(self) -> None:
        """Stop listening. An utterance under way is dropped. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[TranscriptionEvent]:
        if self._events is not None:
            raise RuntimeError("a Transcriber has one iterator")
        self._events = asyncio.Queue(MAX_WAITING_EVENTS)
        self.start()
        try:
            while (event := await self._events.get()) is not None:
                yield event
            await self.wait()
        finally:
            await self.aclose()

    async def _run(self) -> None:
        watchdog = asyncio.create_task(self._fill_gaps(), name="transcriber gaps")
        try:
            async for chunk in pcm_16k(self._audio):
                self._last_audio_at = time.monotonic()
                self._push(chunk)
            watchdog.cancel()
            self._finish_at_end()
            # The finals and what the callbacks started; a callback may itself start more.
            while self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            watchdog.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(watchdog, *self._tasks, return_exceptions=True)
            if self._stream is not None:
                await self._stream.aclose()
            if self._events is not None:
                if self._events.full():
                    self._events.get_nowait()
                self._events.put_nowait(None)

    async def _fill_gaps(self) -> None:
        while True:
            await asyncio.sleep(GAP / 3)
            if not self._endpointer.speaking:
                continue
            missing = time.monotonic() - self._last_audio_at
            if missing > GAP:
                self._last_audio_at += missing
                self._push(bytes(2 * int(missing * VAD_SAMPLE_RATE)))

    def _push(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) >= FRAME_BYTES:
            frame = bytes(self._buffer[:FRAME_BYTES])
            del self._buffer[:FRAME_BYTES]
            self._samples += VAD_FRAME_SAMPLES
            self._frame(frame)

    def _frame(self, frame: bytes) -> None:
        assert self._stream is not None
        was_speaking = self._endpointer.speaking
        edges = self._endpointer.update(self._vad.probability(frame), self._text)
        if SpeechEdge.STARTED in edges:
            self._begin(frame)
        elif was_speaking:
            if SpeechEdge.RESUMED in edges:
                self._stream.resume()
            self._stream.push(frame)
        else:
            self._pre_roll.append(frame)
        if self._endpointer.speaking and self._endpointer.silence == 0.0:
            self._voiced_at = time.monotonic()
            self._voiced_seconds = self._seconds
        if SpeechEdge.PAUSED in edges:
            self._stream.pause()
        if SpeechEdge.ENDED in edges:
            self._end()

    @property
    def _seconds(self) -> float:
        return self._samples / VAD_SAMPLE_RATE

    def _begin(self, frame: bytes) -> None:
        assert self._stream is not None
        self._segment = f"SG_{uuid.uuid4().hex[:12]}"
        self._text = ""
        self._stream.push(b"".join((*self._pre_roll, frame)))
        self._pre_roll.clear()
        began = max(0.0, self._seconds - self._options.min_speech)
        self._emit(TranscriptionEvent(EventType.TALKING_STARTED, "", began, self._segment))

    def _end(self) -> None:
        finishing = self._finish(self._segment, self._voiced_seconds, self._voiced_at, time.monotonic())
        self._own(finishing, "transcriber final")

    def _finish_at_end(self) -> None:
        """The track ended in the middle of an utterance: what was said counts."""
        if self._endpointer.speaking:
            self._endpointer.reset()
            self._end()

    async def _finish(self, segment: str, seconds: float, speech_ended_at: float, endpoint_at: float) -> None:
        assert self._stream is not None
        text, error = "", ""
        try:
            text = (await self._stream.finish()).text
        except ProviderError as failure:
            error = str(failure)
            logger.warning("no text for an utterance: %s", error)
        rest = (text, seconds, segment, speech_ended_at, endpoint_at, error)
        if text:
            self._emit(TranscriptionEvent(EventType.FINAL, *rest))
        self._emit(TranscriptionEvent(EventType.TALKING_FINISHED, *rest))

    def _on_partial(self, text: str) -> None:
        # During a pause the same text once more means: this may be all. Answers are prepared on it.
        if self._endpointer.speaking and (text != self._text or self._endpointer.paused):
            self._text = text
            self._emit(TranscriptionEvent(EventType.PARTIAL, text, self._seconds, self._segment))

    def _emit(self, event: TranscriptionEvent) -> None:
        if self._events is not None:
            if self._events.full():
                self._events.get_nowait()
            self._events.put_nowait(event)
        if self._callback is None:
            return
        try:
            result = self._callback(event)
        except Exception:
            logger.exception("the transcriber's callback failed")
            return
        if inspect.isawaitable(result):
            self._own(_await(result), "transcriber callback")

    def _own(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _await(result: Awaitable[None]) -> None:
    try:
        await result
    except Exception:
        logger.exception("the transcriber's callback failed")
