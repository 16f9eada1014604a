"""Several streams of frames made one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from greenroom.tasks import Tasks

from .audio_frame import AudioFrame
from .log import logger


class _Input:
    """The unread samples of one stream."""

    def __init__(self) -> None:
        self.samples = bytearray()
        self.ended = False


class AudioMixer:
    """An async iterator of frames, each the clipped sum of what its streams delivered for that time.

    A stream that delivers nothing for `stream_timeout_ms` is left out of a block. All streams must have the mixer's
    rate and channels.

    Args:
        blocksize: samples per channel in a mixed frame; 0 means 100 ms.
        capacity: mixed frames that wait at most before the mixer waits for its reader.
    """

    def __init__(
        self,
        sample_rate: int,
        num_channels: int,
        *,
        blocksize: int = 0,
        stream_timeout_ms: int = 100,
        capacity: int = 100,
    ) -> None:
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self._blocksize = blocksize or sample_rate // 10
        self._timeout = stream_timeout_ms / 1000
        self._inputs: dict[AsyncIterator[AudioFrame], _Input] = {}
        self._readers: dict[AsyncIterator[AudioFrame], asyncio.Task[None]] = {}
        self._mixed: asyncio.Queue[AudioFrame | None] = asyncio.Queue(max(0, capacity))
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._ending = False
        self._over = False
        self._tasks = Tasks(logger)
        self._tasks.start(self._mix(), "mixing audio")

    def add_stream(self, stream: AsyncIterator[AudioFrame]) -> None:
        """Mix in another stream. RuntimeError after `end_input` or `aclose`."""
        if self._ending:
            raise RuntimeError("cannot add a stream to a mixer that is closing")
        source = self._inputs[stream] = _Input()
        self._readers[stream] = self._tasks.start(self._read(stream, source), "reading a stream to mix")
        self._arrived.set()

    def remove_stream(self, stream: AsyncIterator[AudioFrame]) -> None:
        """Stop mixing a stream; what it delivered and was not mixed yet is dropped."""
        self._inputs.pop(stream, None)
        if (reader := self._readers.pop(stream, None)) is not None:
            reader.cancel()
        self._arrived.set()

    def end_input(self) -> None:
        """No more streams will be added: the iterator ends when those that are there have ended."""
        self._ending = True
        self._arrived.set()

    async def aclose(self) -> None:
        """Stop at once. Twice is fine."""
        self._ending = True
        await self._tasks.aclose()
        self._readers.clear()
        self._inputs.clear()
        self._finish()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AudioFrame:
        if self._over and self._mixed.empty():
            raise StopAsyncIteration
        frame = await self._mixed.get()
        if frame is None:
            self._over = True
            self._mixed.put_nowait(None)
            raise StopAsyncIteration
        return frame

    def _finish(self) -> None:
        self._over = True
        while self._mixed.full():
            self._mixed.get_nowait()
        self._mixed.put_nowait(None)

    async def _read(self, stream: AsyncIterator[AudioFrame], source: _Input) -> None:
        block_bytes = self._blocksize * self._num_channels * 2
        try:
            async for frame in stream:
                source.samples += frame.data[: frame.samples_per_channel * frame.num_channels].cast("B")
                self._arrived.set()
                while len(source.samples) > 2 * block_bytes:
                    # The reader of the mix sets the pace.
                    self._taken.clear()
                    await self._taken.wait()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a mixed stream failed")
        finally:
            source.ended = True
            self._arrived.set()

    async def _mix(self) -> None:
        import numpy as np

        block = self._blocksize * self._num_channels
        while True:
            await self._collect(block * 2)
            if not self._inputs:
                if self._ending:
                    break
                self._arrived.clear()
                if not self._inputs and not self._ending:
                    await self._arrived.wait()
                continue
            total = np.zeros(block, dtype=np.int32)
            heard = False
            for stream, source in list(self._inputs.items()):
                taken = source.samples[: block * 2]
                del source.samples[: block * 2]
                if taken:
                    heard = True
                    samples = np.frombuffer(taken, dtype=np.int16)
                    total[: samples.size] += samples
                if source.ended and not source.samples:
                    self._inputs.pop(stream, None)
                    self._readers.pop(stream, None)
            self._taken.set()
            if heard:
                mixed = np.clip(total, -32768, 32767).astype(np.int16)
                await self._mixed.put(
                    AudioFrame(bytearray(mixed.tobytes()), self._sample_rate, self._num_channels, self._blocksize)
                )
        await self._mixed.put(None)

    async def _collect(self, needed: int) -> None:
        """Wait until every stream has a block or has ended, at most `stream_timeout_ms` after the first has one."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while self._inputs:
            waiting = [s for s in self._inputs.values() if not s.ended and len(s.samples) < needed]
            if not waiting:
                return
            if deadline is None and len(waiting) < len(self._inputs):
                deadline = loop.time() + self._timeout
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                return
