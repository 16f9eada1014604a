"""The caller's ear: when the agent's voice is audible, and what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from greenroom.agents.caller.recording import SAMPLE_RATE, Recording
from greenroom.agents.caller.script import AUDIBLE
from greenroom.agents.speech.endpointing import EndpointingOptions
from greenroom.agents.speech.protocols import STT
from greenroom.agents.transcriber import Transcriber, TranscriptionEvent

__all__ = ["Ear"]

FRAME_MS = 10
BREATH = 0.3
"""Seconds of silence after which sound counts as a new beginning."""
MAX_WAITING_CHUNKS = 3_000
PATIENT = EndpointingOptions(silence=0.7, unfinished_silence=0.9)
"""An answer of several sentences is one utterance as long as its pauses are short."""


class Ear:
    """Listens to one audio track of the agent, from its subscription on."""

    def __init__(
        self,
        track: Any,
        stt: STT | None,
        on_text: Callable[[TranscriptionEvent], None],
        recording: Recording | None = None,
    ) -> None:
        """`stt` None: levels only, no words."""
        self._track, self._recording = track, recording
        self.since = time.monotonic()
        """When the agent got a voice."""
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING_CHUNKS)
        self._transcriber = Transcriber(self._pcm(), on_text, stt=stt, endpointing=PATIENT) if stt is not None else None
        self._task: asyncio.Task[None] | None = None
        self._audible = asyncio.Event()
        self._listening_since = float("inf")
        self.first_audible_at: float | None = None
        self.last_audible_at = 0.0
        self._heard_since: float | None = None
        self.overlaps = False
        """Whether the answer (see `listen_from`) is sound that had begun before that moment, and went on."""

    @property
    def recognising(self) -> bool:
        return self._transcriber is not None and self._transcriber.talking

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="caller's ear")
        if self._transcriber is not None:
            self._transcriber.start()

    def listen_from(self, moment: float) -> None:
        """The next audible audio after `moment` (`time.monotonic()`) is the answer."""
        self._listening_since = moment
        self.first_audible_at = None
        self.overlaps = False
        self._audible.clear()
        # An answer may have begun between that moment and now, or even before.
        if self._heard_since is not None and self.last_audible_at >= moment:
            self._answered_at(max(moment, self._heard_since))

    async def wait_audible(self, timeout: float) -> float | None:
        """When the answer became audible, or None."""
        try:
            await asyncio.wait_for(self._audible.wait(), timeout)
        except TimeoutError:
            return None
        return self.first_audible_at

    async def aclose(self) -> None:
        if self._transcriber is not None:
            await self._transcriber.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        from greenroom import rtc

        stream = rtc.AudioStream(self._track, sample_rate=SAMPLE_RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                self._frame(bytes(event.frame.data.cast("B")))
        finally:
            if not self._chunks.full():
                self._chunks.put_nowait(None)
            await stream.aclose()

    def _frame(self, pcm: bytes) -> None:
        now = time.monotonic()
        if self._recording is not None:
            self._recording.agent(pcm, now)
        samples = np.frombuffer(pcm, np.int16)
        if len(samples) and int(np.abs(samples.astype(np.int32)).max()) > AUDIBLE:
            if now - self.last_audible_at > BREATH:
                self._heard_since = now
            self.last_audible_at = now
            if self.first_audible_at is None and now >= self._listening_since:
                self._answered_at(now)
        if self._transcriber is not None and not self._chunks.full():
            self._chunks.put_nowait(pcm)

    def _answered_at(self, moment: float) -> None:
        self.first_audible_at = moment
        self.overlaps = self._heard_since is not None and self._heard_since < self._listening_since
        self._audible.set()

    async def _pcm(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
