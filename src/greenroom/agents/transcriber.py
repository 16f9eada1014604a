"""Speech on an audio track as events: talking started, partial texts, the final text, talking finished."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import sys
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from greenroom.agents.current import served_job
from greenroom.agents.speech.audio_input import pcm_16k
from greenroom.agents.speech.endpointing import FRAME_SECONDS, Endpointer, EndpointingOptions, SpeechEdge
from greenroom.agents.speech.protocols import (
    STT,
    VAD,
    VAD_FRAME_SAMPLES,
    VAD_SAMPLE_RATE,
    STTStream,
    Transcript,
    VADStream,
    reason,
)
from greenroom.agents.speech.providers import default_stt, default_vad
from greenroom.agents.tracebacks import failure_in_full
from greenroom.tasks import Tasks

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
FINAL_WITHIN = 30.0
"""Seconds that a recogniser may take for the text of an utterance that is over."""
BREATHER = 50
"""Frames of one chunk after which others get their turn: a chunk may hold minutes."""
LAST_WORDS = 1.0
"""Seconds that callbacks get for the last events when listening is stopped."""


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
    """Why there is no text, when recognition failed: whatever the provider raised, in words."""

    def __str__(self) -> str:
        """`final at 1.3 s: what time is it`."""
        said = f"no text ({self.error})" if self.error else self.text
        return f"{self.type.replace('_', ' ')} at {self.time_seconds:.1f} s" + (f": {said}" if said else "")


Callback = Callable[[TranscriptionEvent], Awaitable[None] | None]
_running: set[Transcriber] = set()


class Transcriber:
    """Listens to one audio track.

        transcriber = Transcriber(audio_track=track, callback=on_event)
        transcriber.start()

    or, without a callback, `async for event in transcriber: ...`, which starts it and ends when the track ends.

    Every TALKING_STARTED is followed by one TALKING_FINISHED of the same segment, and utterances finish in their order,
    whatever the recogniser does: what it raises is the event's `error`, and listening goes on. A voice detector or an audio
    source that raises ends the listening, after the utterance under way was finished with that error.

    In a job, what is heard on a track of its room is shown there as captions, in the speaker's name.

    Args:
        audio_track: a subscribed audio track, or an async iterable of mono int16 chunks at 16 kHz.
        callback: called in the event loop for every event; may be `async`. What it raises is logged; when the
            listening ends, only if it had not raised before.
        stt, vad: providers; the defaults of `speech.providers` otherwise.
        endpointing: when an utterance begins and ends.
        captions: whether it is shown.

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
        captions: bool = True,
    ) -> None:
        self._captions = captions
        self._audio = audio_track
        self._callback = callback
        self._stt = stt or default_stt()
        self._vad: VADStream = (vad or default_vad()).stream()
        self._endpointer = Endpointer(endpointing)
        self._options = self._endpointer.options
        self._stream: STTStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks = Tasks(logger)
        self._events: asyncio.Queue[TranscriptionEvent | None] | None = None
        self._buffer = bytearray()
        self._pre_roll: deque[bytes] = deque(maxlen=max(1, round(self._options.pre_roll / FRAME_SECONDS)))
        self._pushing = asyncio.Lock()
        self._samples = 0
        self._segment = ""
        self._unfinished: list[str] = []
        self._fault = ""
        self._final: asyncio.Task[None] | None = None
        self._begun = False
        self._ending = False
        self._raised = False
        self._text = ""
        self._last_audio_at = 0.0
        self._voiced_at = 0.0
        self._voiced_seconds = 0.0

    @property
    def talking(self) -> bool:
        """Whether an utterance is under way."""
        return self._endpointer.speaking

    @property
    def segment(self) -> str:
        """The segment of the utterance under way, or of the last one."""
        return self._segment

    @property
    def voiced(self) -> float:
        """Seconds of voice in the utterance under way; 0 when there is none."""
        return self._endpointer.spoken if self._endpointer.speaking else 0.0

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
        """Stop listening. The text of an utterance under way is dropped, its end is told. Twice is fine."""
        if self._task is not None:
            # A task that is cancelled before its first step never runs its clean-up.
            if not self._begun:
                await asyncio.sleep(0)
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
        self._begun = True
        watchdog = asyncio.create_task(self._fill_gaps(), name="transcriber gaps")
        try:
            try:
                async for chunk in pcm_16k(self._audio):
                    self._last_audio_at = time.monotonic()
                    await self._push(chunk)
            except Exception as error:
                self._fault = self._fault or reason(error)
                raise
            finally:
                watchdog.cancel()
                await asyncio.gather(watchdog, return_exceptions=True)
                self._ending = True
                self._finish_at_end()
            await self._settle()
        except Exception:
            await self._settle()
            raise
        finally:
            await self._stop()

    async def _settle(self) -> None:
        """The finals and what the callbacks started; a callback may itself start more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop(self) -> None:
        """Nothing stays: no task, no utterance whose end was not told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for segment in list(self._unfinished):
            self._finished(segment, self._voiced_seconds, self._voiced_at, time.monotonic(), "", self._fault)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=LAST_WORDS)
        self._tasks.cancel()
        if self._stream is not None:
            try:
                await self._stream.aclose()
            except Exception as error:
                logger.warning("a recogniser did not close: %s", reason(error))
        if self._events is not None:
            if self._events.full():
                self._events.get_nowait()
            self._events.put_nowait(None)

    async def _fill_gaps(self) -> None:
        while True:
            await asyncio.sleep(GAP / 3)
            # Audio that is being worked through is no gap, however long that takes.
            if not self._endpointer.speaking or self._pushing.locked():
                continue
            missing = time.monotonic() - self._last_audio_at
            if missing > GAP:
                self._last_audio_at += missing
                try:
                    await self._push(bytes(2 * int(missing * VAD_SAMPLE_RATE)))
                except Exception as error:
                    # The next real audio meets the same fault and ends the listening with it.
                    logger.warning("silence could not be judged: %s", reason(error))
                    return

    async def _push(self, chunk: bytes) -> None:
        async with self._pushing:
            self._buffer += chunk
            for count in range(len(self._buffer) // FRAME_BYTES):
                frame = bytes(self._buffer[:FRAME_BYTES])
                del self._buffer[:FRAME_BYTES]
                self._samples += VAD_FRAME_SAMPLES
                if self._frame(frame) or count % BREATHER == BREATHER - 1:
                    # An utterance ended: its `finish()` sets aside what there is before more audio is pushed.
                    await asyncio.sleep(0)

    def _frame(self, frame: bytes) -> bool:
        """Whether the frame ended an utterance."""
        was_speaking = self._endpointer.speaking
        edges = self._endpointer.update(self._vad.probability(frame), self._text)
        if SpeechEdge.STARTED in edges:
            self._begin(frame)
        elif was_speaking:
            if SpeechEdge.RESUMED in edges:
                self._tell(lambda stream: stream.resume())
            self._tell(lambda stream: stream.push(frame))
        else:
            self._pre_roll.append(frame)
        if self._endpointer.speaking and self._endpointer.silence == 0.0:
            self._voiced_at = time.monotonic()
            self._voiced_seconds = self._seconds
        if SpeechEdge.PAUSED in edges:
            self._tell(lambda stream: stream.pause())
        if SpeechEdge.ENDED in edges:
            self._end()
        return SpeechEdge.ENDED in edges

    def _tell(self, what: Callable[[STTStream], None]) -> None:
        """Hand something to the recogniser. One that raises loses this utterance, and is asked again with the next."""
        assert self._stream is not None
        if self._fault:
            return
        try:
            what(self._stream)
        except Exception as error:
            self._fault = reason(error)
            logger.warning("the recogniser failed in the middle of an utterance", exc_info=error)

    @property
    def _seconds(self) -> float:
        return self._samples / VAD_SAMPLE_RATE

    def _begin(self, frame: bytes) -> None:
        self._segment = f"SG_{uuid.uuid4().hex[:12]}"
        self._text = self._fault = ""
        pcm = b"".join((*self._pre_roll, frame))
        self._tell(lambda stream: stream.push(pcm))
        self._pre_roll.clear()
        began = max(0.0, self._seconds - self._options.min_speech)
        self._unfinished.append(self._segment)
        self._emit(TranscriptionEvent(EventType.TALKING_STARTED, "", began, self._segment))

    def _end(self) -> None:
        finishing = self._finish(
            self._segment, self._voiced_seconds, self._voiced_at, time.monotonic(), self._fault, self._final
        )
        self._final = self._tasks.start(finishing, "transcriber final")

    def _finish_at_end(self) -> None:
        """The track ended in the middle of an utterance: what was said counts."""
        if self._endpointer.speaking:
            self._endpointer.reset()
            self._end()

    async def _finish(
        self,
        segment: str,
        seconds: float,
        speech_ended_at: float,
        endpoint_at: float,
        error: str,
        before: asyncio.Task[None] | None,
    ) -> None:
        assert self._stream is not None
        text = ""
        try:
            if error:
                self._stream.discard()
            else:
                text = await self._final_text(self._stream)
        except Exception as failure:
            error = error or reason(failure)
            logger.warning("no text for an utterance: %s", error, exc_info=failure)
        if before is not None:
            # A short utterance may be recognised sooner than the long one before it.
            await asyncio.wait([before])
        self._finished(segment, seconds, speech_ended_at, endpoint_at, text, error)

    @staticmethod
    async def _final_text(stream: STTStream) -> str:
        try:
            async with asyncio.timeout(FINAL_WITHIN):
                transcript: Transcript = await stream.finish()
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no text within {FINAL_WITHIN:g} s") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the recogniser gave up") from error
        if not isinstance(transcript.text, str):
            raise TypeError(f"the recogniser's text is a {type(transcript.text).__name__}")
        return transcript.text

    def _finished(
        self, segment: str, seconds: float, speech_ended_at: float, endpoint_at: float, text: str, error: str
    ) -> None:
        if segment not in self._unfinished:
            return
        self._unfinished.remove(segment)
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
        if self._captions and (job := served_job()) is not None:
            job.heard(self._audio, event)
        if self._callback is None:
            return
        around = sys.exception()
        try:
            result = self._callback(event)
        except (Exception, SystemExit) as error:
            _forget(error, around)
            self._callback_failed(error)
            return
        if inspect.isawaitable(result):
            self._tasks.start(self._await(result), "transcriber callback")

    async def _await(self, result: Awaitable[None]) -> None:
        try:
            await result
        except (Exception, SystemExit) as error:
            self._callback_failed(error)

    def _callback_failed(self, error: BaseException) -> None:
        # What it raised in the call has been told, and a job may be ending for it: the last events only repeat it.
        told, self._raised = self._raised, True
        what = "the transcriber's callback"
        exits = isinstance(error, SystemExit)
        if self._ending and told and not exits:
            return
        if (job := served_job()) is not None:
            job.raised(what, error)
        elif exits:
            raise error
        else:
            logger.error("%s failed:%s", what, failure_in_full(error))


def _forget(error: BaseException, around: BaseException | None) -> None:
    """Python chains what a callback raises to what was being handled `around` the call, which is none of its affair."""
    part: BaseException | None = error
    while around is not None and part is not None and part is not around:
        if part.__context__ is around:
            part.__context__ = None
        part = part.__context__
