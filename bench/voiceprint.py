"""How two voices differ: their pitch, and how their sound is spread over the frequencies. Mono int16 PCM at 16 kHz."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .sound import RATE

__all__ = ["pitch", "spectral_distance"]

FRAME, STEP = RATE // 25, RATE // 100
LOWEST, HIGHEST = 60.0, 400.0
"""Hz, of what is taken for a pitch."""
VOICED = 0.5
"""Of a frame's energy that must come again one period later."""
FIRST = 0.9
SOFTEST_DB = 30.0
"""Frames that are softer than the loudest by more than this say nothing."""
BANDS = 24


def pitch(pcm: bytes) -> float:
    """Median of the fundamental frequency in Hz, over the voiced frames. ValueError when there is none."""
    shortest, longest = int(RATE / HIGHEST), int(RATE / LOWEST)
    found = []
    for frame in _loud(pcm):
        frame = frame - frame.mean()
        spectrum = np.fft.rfft(frame, 2 * FRAME)
        again = np.fft.irfft(spectrum * spectrum.conj())[:FRAME]
        # Without the bias towards short periods, of which more fit into a frame.
        again = again / (FRAME - np.arange(FRAME))
        heights = again[shortest : longest + 1]
        if heights.max() <= VOICED * again[0]:
            continue
        # What comes again after one period does so after two: the first peak that is about as high as any counts.
        peaks = np.flatnonzero((heights[1:-1] >= heights[:-2]) & (heights[1:-1] >= heights[2:])) + 1
        high = peaks[heights[peaks] > FIRST * heights.max()]
        if len(high):
            found.append(RATE / (shortest + int(high[0])))
    if not found:
        raise ValueError("there is no voice with a pitch")
    return float(np.median(found))


def spectral_distance(one: bytes, other: bytes) -> float:
    """Mean difference in dB between the two average spectra, in bands as wide as the ear's, each taken as equally loud."""
    return float(np.mean(np.abs(_spectrum(one) - _spectrum(other))))


def _spectrum(pcm: bytes) -> np.ndarray:
    power = np.mean([np.abs(np.fft.rfft(frame * np.hanning(FRAME))) ** 2 for frame in _loud(pcm)], axis=0)
    frequencies = np.fft.rfftfreq(FRAME, 1 / RATE)
    mel = np.linspace(_mel(100.0), _mel(7_000.0), BANDS + 1)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bands = np.array(
        [
            power[(frequencies >= low) & (frequencies < max(high, low + 2 * RATE / FRAME))].mean()
            for low, high in pairwise(edges)
        ]
    )
    level = 10 * np.log10(bands + 1e-9)
    return level - level.mean()


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


def _loud(pcm: bytes) -> np.ndarray:
    """Frames of 40 ms each 10 ms, as rows, without the pauses. ValueError for silence."""
    samples = np.frombuffer(pcm, np.int16).astype(np.float64)
    if len(samples) < FRAME or not samples.any():
        raise ValueError("there is no sound to judge")
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::STEP]
    power = np.mean(frames**2, axis=1)
    return frames[power > power.max() / 10 ** (SOFTEST_DB / 10)]
