"""Twenty sounds in which nobody speaks, made from numbers: 16 kHz, -1..1, the same ones every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Sound = NDArray[np.float32]


def _time(seconds: float) -> Sound:
    return (np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def _noise(
    rng: np.random.Generator, seconds: float, slope: float = 0.0, low: float = 0.0, high: float = 8_000.0
) -> Sound:
    """Noise of unit level between two frequencies, whose level falls with frequency to the power of `slope`."""
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    spectrum *= np.maximum(frequencies, 20.0) ** -slope
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    sound = np.fft.irfft(spectrum, count)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def _tones(seconds: float, *frequencies: float) -> Sound:
    t = _time(seconds)
    return (sum(np.sin(2 * np.pi * f * t) for f in frequencies) / len(frequencies)).astype(np.float32)


def _note(frequency: float, seconds: float, rng: np.random.Generator) -> Sound:
    t = _time(seconds)
    partials = sum(np.sin(2 * np.pi * frequency * n * t + rng.uniform(0, 6)) / n**1.5 for n in range(1, 8))
    return (partials * np.exp(-3 * t / seconds) * np.minimum(1, t / 0.01)).astype(np.float32)


def _bursts(rng: np.random.Generator, seconds: float, every: float, length: float, level: float = 0.5) -> Sound:
    sound = np.zeros(int(seconds * RATE), np.float32)
    at = every / 2
    while at + length < seconds:
        start = int(at * RATE)
        burst = rng.standard_normal(int(length * RATE)) * np.exp(-np.linspace(0, 6, int(length * RATE)))
        sound[start : start + len(burst)] += (level * burst).astype(np.float32)
        at += every * rng.uniform(0.6, 1.4)
    return sound


def sounds(seed: int = 7) -> dict[str, Sound]:
    rng = np.random.default_rng(seed)
    t4 = _time(4.0)
    scale = [261.6, 293.7, 329.6, 349.2, 392.0, 440.0, 493.9, 523.3]
    melody = np.concatenate([_note(scale[i], 0.4, rng) for i in rng.integers(0, 8, 10)])
    chord = lambda root: sum(_note(root * r, 1.0, rng) for r in (1, 1.26, 1.5))  # noqa: E731
    chords = np.concatenate([chord(f) for f in (196.0, 261.6, 220.0, 174.6)])
    ringing = _tones(4.0, 440.0, 480.0) * ((t4 % 3.0) < 2.0)
    breath = _noise(rng, 4.0, 0.3, 300.0, 5_000.0) * np.maximum(0, np.sin(2 * np.pi * 0.35 * t4)) ** 2
    claps = sum(_bursts(rng, 4.0, 0.12, 0.03, 0.3) for _ in range(12))
    dtmf = np.concatenate(
        [np.pad(_tones(0.12, *pair), (0, 1_300)) for pair in
         ((697, 1209), (770, 1336), (852, 1477), (941, 1336), (697, 1477), (770, 1209), (852, 1336), (697, 1336), (941, 1209))]
    )  # fmt: skip
    siren = np.sin(2 * np.pi * np.cumsum(700 + 250 * np.sin(2 * np.pi * 0.5 * t4)) / RATE).astype(np.float32)
    chirps = np.sin(2 * np.pi * (2_500 * (t4 % 0.4) + 3_000 * (t4 % 0.4) ** 2)) * ((t4 % 0.4) < 0.15)
    engine = sum(np.sin(2 * np.pi * 42 * n * t4 + n) / n for n in range(1, 20)) * (1 + 0.3 * np.sin(2 * np.pi * 7 * t4))
    busy = _tones(4.0, 480.0, 620.0) * ((t4 % 1.0) < 0.5)
    wind = _noise(rng, 4.0, 1.0, 30.0, 900.0) * (0.4 + 0.6 * np.sin(2 * np.pi * 0.3 * t4) ** 2)
    return {
        "silence": np.zeros(4 * RATE, np.float32),
        "nearly silence": 0.0003 * _noise(rng, 4.0),
        "white noise": 0.05 * _noise(rng, 4.0),
        "loud white noise": 0.3 * _noise(rng, 2.0),
        "pink noise": 0.05 * _noise(rng, 6.0, 0.5),
        "brown noise": 0.1 * _noise(rng, 4.0, 1.0),
        "mains hum": (0.2 * _tones(4.0, 50.0, 100.0, 150.0, 250.0)).astype(np.float32),
        "a tone": 0.3 * _tones(3.0, 1_000.0),
        "ringing": (0.3 * ringing).astype(np.float32),
        "engaged tone": (0.3 * busy).astype(np.float32),
        "dialling": 0.4 * dtmf,
        "a melody": 0.2 * melody,
        "chords": (0.1 * chords).astype(np.float32),
        "breathing": (0.05 * breath).astype(np.float32),
        "clicks": _bursts(rng, 4.0, 0.5, 0.004),
        "typing": _bursts(rng, 4.0, 0.17, 0.02, 0.15),
        "applause": claps.astype(np.float32),
        "a siren": 0.3 * siren,
        "birds": (0.2 * chirps).astype(np.float32),
        "wind": (0.2 * wind).astype(np.float32),
        "an engine": (0.1 * engine).astype(np.float32),
    }
