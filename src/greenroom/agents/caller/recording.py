"""A call as a sound file: the caller on the left, the agent on the right."""

from __future__ import annotations

import time
import wave
from pathlib import Path

import numpy as np

__all__ = ["SAMPLE_RATE", "Recording"]

SAMPLE_RATE = 16_000
"""Hz, of the file and of the agent's sound."""
JITTER = 0.08
"""Seconds by which sound may be late before silence is written in its place: packets never come in step."""
LONGEST = 3600
"""Seconds that are kept; what comes later is left out."""


class Recording:
    """Collects both sides and writes them when it is closed. All sound is mono int16 PCM, times are `time.monotonic()`."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when there can be no such file."""
        self._file = path.open("wb")
        self._began = time.monotonic()
        self._caller, self._agent = bytearray(), bytearray()

    def caller(self, pcm: bytes, rate: int, at: float) -> None:
        """What the caller said, from `at` on."""
        from greenroom import rtc

        if rate != SAMPLE_RATE:
            resampler = rtc.AudioResampler(rate, SAMPLE_RATE)
            frames = (*resampler.push(bytearray(pcm)), *resampler.flush())
            pcm = b"".join(bytes(frame.data.cast("B")) for frame in frames)
        self._add(self._caller, pcm, at)

    def agent(self, pcm: bytes, at: float) -> None:
        """The next sound of the agent (16 kHz), which came at `at`."""
        self._add(self._agent, pcm, at)

    def close(self) -> None:
        """Write the file. Twice is fine."""
        if self._file.closed:
            return
        length = max(len(self._caller), len(self._agent))
        sides = [np.frombuffer(side.ljust(length, b"\0"), np.int16) for side in (self._caller, self._agent)]
        with self._file, wave.open(self._file, "wb") as wav:
            wav.setnchannels(2)
            wav.setsampwidth(2)
            wav.setframerate(SAMPLE_RATE)
            wav.writeframes(np.stack(sides, axis=1).tobytes())

    def _add(self, side: bytearray, pcm: bytes, at: float) -> None:
        due = 2 * round((at - self._began) * SAMPLE_RATE)
        if due - len(side) > 2 * JITTER * SAMPLE_RATE:
            side.extend(bytes(min(due, 2 * LONGEST * SAMPLE_RATE) - len(side)))
        side.extend(pcm[: max(0, 2 * LONGEST * SAMPLE_RATE - len(side))])
