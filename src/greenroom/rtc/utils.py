"""Small helpers around frames."""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator

from .audio_frame import AudioFrame


def combine_audio_frames(buffer: AudioFrame | list[AudioFrame]) -> AudioFrame:
    """One frame with the samples of all. ValueError for an empty list or frames of different rates or channels."""
    if isinstance(buffer, AudioFrame):
        return buffer
    if not buffer:
        raise ValueError("buffer is empty")
    first = buffer[0]
    joined = bytearray()
    samples = 0
    for frame in buffer:
        if frame.sample_rate != first.sample_rate:
            raise ValueError(f"Sample rate mismatch: expected {first.sample_rate}, got {frame.sample_rate}")
        if frame.num_channels != first.num_channels:
            raise ValueError(f"Channel count mismatch: expected {first.num_channels}, got {frame.num_channels}")
        joined += frame.data[: frame.samples_per_channel * frame.num_channels].cast("B")
        samples += frame.samples_per_channel
    return AudioFrame(joined, first.sample_rate, first.num_channels, samples)


async def sine_wave_generator(
    freq: float, duration: float, sample_rate: int = 48000, amplitude: float = 0.3
) -> AsyncIterator[AudioFrame]:
    """Mono frames of 10 ms with a sine of `freq` Hz, `duration` seconds in all; `amplitude` 0..1."""
    block = sample_rate // 100
    total = int(duration * sample_rate)
    step = 2 * math.pi * freq / sample_rate
    peak = amplitude * 32767
    for start in range(0, total, block):
        size = min(block, total - start)
        samples = array("h", (int(peak * math.sin(step * i)) for i in range(start, start + size)))
        yield AudioFrame(bytearray(samples.tobytes()), sample_rate, 1, size)
