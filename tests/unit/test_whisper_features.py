"""The spectrogram against its definition, worked out one value at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from greenroom.plugins.whisper.features import log_mel, mel_filters, samples_of

RATE, WINDOW, HOP = 16_000, 400, 160


def slaney_mel(frequency: float) -> float:
    return frequency / (200 / 3) if frequency < 1_000 else 15 + 27 * math.log(frequency / 1_000, 6.4)


def slaney_frequency(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1_000 * 6.4 ** ((mel - 15) / 27)


def edges(n_mels: int) -> list[float]:
    return [slaney_frequency(i * slaney_mel(8_000) / (n_mels + 1)) for i in range(n_mels + 2)]


def energy(samples: np.ndarray, frame: int, mel: int, n_mels: int = 80) -> float:
    """Of one frame in one mel band, by the definition of everything."""
    at = [frame * HOP + i - WINDOW // 2 for i in range(WINDOW)]
    last = len(samples) - 1
    mirrored = [samples[abs(i) if i <= last else 2 * last - i] for i in at]
    windowed = [x * (0.5 - 0.5 * math.cos(2 * math.pi * i / WINDOW)) for i, x in enumerate(mirrored)]
    low, middle, high = edges(n_mels)[mel : mel + 3]
    total = 0.0
    for k in range(WINDOW // 2 + 1):
        frequency = k * RATE / WINDOW
        weight = max(0.0, min((frequency - low) / (middle - low), (high - frequency) / (high - middle)))
        if weight:
            turns = [2 * math.pi * k * i / WINDOW for i in range(WINDOW)]
            real = sum(x * math.cos(t) for x, t in zip(windowed, turns, strict=True))
            imaginary = sum(x * math.sin(t) for x, t in zip(windowed, turns, strict=True))
            total += weight * 2 / (high - low) * (real**2 + imaginary**2)
    return total


def test_values_are_those_of_the_definition():
    rng = np.random.default_rng(3)
    t = np.arange(8_000) / RATE
    samples = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.standard_normal(8_000)).astype(np.float32)
    picture = log_mel(samples)
    assert picture.shape == (80, 50)
    assert picture.dtype == np.float32 and picture.flags.c_contiguous
    for frame, mel in ((0, 3), (0, 40), (25, 10), (25, 79), (49, 60)):
        expected = (math.log10(energy(samples, frame, mel)) + 4) / 4
        assert picture[mel, frame] == pytest.approx(expected, abs=2e-4), (frame, mel)


def test_what_is_80_db_below_the_loudest_is_the_floor():
    samples = np.zeros(16_000, np.float32)
    samples[:1_600] = np.sin(2 * np.pi * 1_000 * np.arange(1_600) / RATE)
    picture = log_mel(samples)
    assert picture[:, 50:].min() == picture[:, 50:].max() == pytest.approx(picture.max() - 2.0)


def test_a_fixed_length_adds_silence_or_cuts_the_end():
    samples = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) / 10
    longer = log_mel(samples, length=48_000)
    assert longer.shape == (80, 300)
    assert longer[:, :98] == pytest.approx(log_mel(samples)[:, :98], abs=1e-5)
    assert log_mel(samples, length=8_000).shape == (80, 50)
    assert log_mel(samples, n_mels=128).shape == (128, 100)
    with pytest.raises(ValueError, match="200 samples are too few"):
        log_mel(samples[:200])


def test_filters_have_equal_areas():
    areas = mel_filters(80).sum(axis=1) * RATE / WINDOW
    assert areas[30:] == pytest.approx(1.0, abs=0.1)


def test_samples_of_odd_bytes():
    assert samples_of(b"\x00\x40\x00\x80\x01").tolist() == [0.5, -1.0]
