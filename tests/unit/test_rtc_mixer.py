"""Mixing streams of frames."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from greenroom import rtc


async def _stream(value: int, frames: int, samples: int = 480) -> AsyncIterator[rtc.AudioFrame]:
    for _ in range(frames):
        yield rtc.AudioFrame(np.full(samples, value, np.int16).tobytes(), 48000, 1, samples)


async def _mixed(mixer: rtc.AudioMixer) -> list[int]:
    async with asyncio.timeout(10):
        return [sample async for frame in mixer for sample in frame.data]


async def test_sums_and_clips() -> None:
    mixer = rtc.AudioMixer(48000, 1, blocksize=480)
    for value in (20_000, 20_000, -1_000):
        mixer.add_stream(_stream(value, 10))
    mixer.end_input()
    assert await _mixed(mixer) == [32767] * 4800


async def test_streams_of_different_lengths() -> None:
    mixer = rtc.AudioMixer(48000, 1, blocksize=480)
    mixer.add_stream(_stream(1, 10))
    mixer.add_stream(_stream(2, 5))
    mixer.end_input()
    assert await _mixed(mixer) == [3] * 2400 + [1] * 2400


async def test_a_stalled_stream_does_not_hold_up_the_others() -> None:
    async def stalled() -> AsyncIterator[rtc.AudioFrame]:
        await asyncio.Event().wait()
        yield rtc.AudioFrame.create(48000, 1, 480)

    mixer = rtc.AudioMixer(48000, 1, blocksize=480, stream_timeout_ms=10)
    mixer.add_stream(_stream(5, 3))
    mixer.add_stream(stalled())
    async with asyncio.timeout(10):
        assert [frame.data[0] async for frame in _take(mixer, 3)] == [5, 5, 5]
        await mixer.aclose()
        await mixer.aclose()


async def _take(mixer: rtc.AudioMixer, count: int) -> AsyncIterator[rtc.AudioFrame]:
    async for frame in mixer:
        yield frame
        count -= 1
        if not count:
            return


async def test_more_input_than_anybody_reads_is_held_back() -> None:
    produced = 0

    async def endless() -> AsyncIterator[rtc.AudioFrame]:
        nonlocal produced
        while True:
            produced += 1
            yield rtc.AudioFrame.create(48000, 1, 480)
            await asyncio.sleep(0)

    mixer = rtc.AudioMixer(48000, 1, blocksize=480, capacity=4)
    mixer.add_stream(endless())
    for _ in range(500):
        await asyncio.sleep(0)
    assert produced < 20
    await mixer.aclose()
