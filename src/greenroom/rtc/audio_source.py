"""Where a program's audio goes in."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from .audio_frame import AudioFrame
from .engine import Engine, get_engine

if TYPE_CHECKING:
    from greenroom._native import AudioInput

PLAYOUT_SLACK = 0.5
"""Seconds after which `wait_for_playout` looks again, should an announcement have been missed."""


class AudioSource:
    """A bounded queue of PCM that the native clock empties in real time.

    `capture_frame` waits while the queue is full, so a program may push as fast as it can. Short queues (50 ms) react
    fast, long ones (the default, 1000 ms) survive a busy event loop.

    Args:
        sample_rate, num_channels: of the frames that will be captured.
        queue_size_ms: length of the queue; 0 holds one frame at a time.
    """

    def __init__(
        self,
        sample_rate: int,
        num_channels: int,
        queue_size_ms: int = 1000,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if sample_rate <= 0 or num_channels not in (1, 2) or queue_size_ms < 0:
            raise ValueError(
                f"an AudioSource needs a positive rate, 1 or 2 channels and a queue >= 0 ms, "
                f"not {sample_rate} Hz, {num_channels} channels, {queue_size_ms} ms"
            )
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self._queue_size_ms = queue_size_ms
        self._loop = loop
        self._engine: Engine | None = None
        self._input: AudioInput | None = None
        self._turns: deque[asyncio.Future[None]] = deque()
        self._players: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    @property
    def num_channels(self) -> int:
        return self._num_channels

    @property
    def queued_duration(self) -> float:
        """Seconds of audio that wait to be sent."""
        return self._input.queued_ms() / 1000 if self._input is not None else 0.0

    def _native(self, loop: asyncio.AbstractEventLoop | None = None) -> AudioInput:
        """The native queue, made at first use so that a source may be created outside of the loop."""
        if self._input is None:
            from greenroom import _native

            self._engine = get_engine(self._loop or loop)
            self._input = _native.AudioInput(
                self._engine.native, self._sample_rate, self._num_channels, self._queue_size_ms
            )
            # Weak, so that a source which the program dropped without closing gives its queue back.
            reference = weakref.ref(self)

            def listener(event: tuple[Any, ...]) -> None:
                source = reference()
                if source is not None:
                    source._on_event(event)

            self._engine.sources[self._input.id] = listener
        return self._input

    def __del__(self) -> None:
        native = getattr(self, "_input", None)
        if native is not None and not self._closed and self._engine is not None:
            self._engine.sources.pop(native.id, None)
            native.close()

    def _on_event(self, event: tuple[Any, ...]) -> None:
        if event[0] == "room":
            self._next_turn()
        elif event[0] == "silent":
            self._played_out()

    def _next_turn(self) -> None:
        """Let the capture that waits longest try again."""
        if self._turns and not self._turns[0].done():
            self._turns[0].set_result(None)

    def _played_out(self) -> None:
        for player in self._players:
            if not player.done():
                player.set_result(None)
        self._players.clear()

    def clear_queue(self) -> None:
        """Drop all audio that was not sent yet. Waiting captures and playout waiters go on."""
        if self._input is not None:
            self._input.clear()
        self._played_out()
        self._next_turn()

    async def capture_frame(self, frame: AudioFrame) -> None:
        """Queue a frame; waits while there is no room for it. Frames of several callers go in their order of arrival.

        Raises:
            ValueError: the frame's rate or number of channels is not the source's.
        """
        if frame.samples_per_channel == 0 or self._closed:
            return
        if frame.sample_rate != self._sample_rate or frame.num_channels != self._num_channels:
            raise ValueError(
                f"this source takes {self._sample_rate} Hz with {self._num_channels} channel(s), "
                f"the frame has {frame.sample_rate} Hz with {frame.num_channels}"
            )
        native = self._native()
        pcm = frame.data[: frame.samples_per_channel * frame.num_channels]
        if not self._turns and native.push(pcm):
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._turns.append(turn)
        try:
            while not self._closed:
                if self._turns[0] is turn and native.push(pcm):
                    return
                await turn
                place = self._turns.index(turn)
                turn = self._turns[place] = loop.create_future()
        finally:
            if turn in self._turns:
                self._turns.remove(turn)
            self._next_turn()

    async def wait_for_playout(self) -> None:
        """Return when the queue has run empty."""
        while self._input is not None and not self._closed and (queued := self._input.queued_ms()) > 0:
            player = asyncio.get_running_loop().create_future()
            self._players.append(player)
            await asyncio.wait([player], timeout=queued / 1000 + PLAYOUT_SLACK)
            if not player.done():
                self._players.remove(player)

    async def aclose(self) -> None:
        """Give the queue back. Waiting captures return. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._input is not None:
            if self._engine is not None:
                self._engine.sources.pop(self._input.id, None)
            self._input.close()
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)
        self._played_out()

    def __repr__(self) -> str:
        return f"rtc.AudioSource(sample_rate={self._sample_rate}, num_channels={self._num_channels})"


def audio_input(source: AudioSource, loop: asyncio.AbstractEventLoop) -> AudioInput:
    """For the SDK: the native queue of a source that is published on `loop`."""
    return source._native(loop)
