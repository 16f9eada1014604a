"""Voices are told apart by their pitch and by how their sound is spread over the frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from bench.sound import RATE
from bench.voiceprint import pitch, spectral_distance


def voice(fundamental: float, fall: float, seconds: float = 2.0) -> bytes:
    """Overtones that get softer by `fall` each, with pauses."""
    time = np.arange(int(seconds * RATE)) / RATE
    sound = sum(fall**n * np.sin(2 * np.pi * fundamental * n * time) for n in range(1, int(7_000 / fundamental)))
    sound = sound * (time % 0.5 < 0.35)
    return (6_000 * sound / np.abs(sound).max()).astype(np.int16).tobytes()


@pytest.mark.parametrize("fundamental", [90.0, 120.0, 200.0, 260.0])
def test_the_pitch_is_the_fundamental(fundamental):
    assert pitch(voice(fundamental, 0.9)) == pytest.approx(fundamental, rel=0.02)


def test_voices_differ_from_each_other_and_not_from_themselves():
    bright, dull = voice(120, 0.97), voice(120, 0.85)
    assert spectral_distance(bright, bright) == 0
    assert spectral_distance(bright, voice(120, 0.97, seconds=3.0)) < 0.5
    assert spectral_distance(bright, dull) > 5


def test_loudness_is_no_difference():
    loud = voice(120, 0.9)
    soft = (np.frombuffer(loud, np.int16) // 2).astype(np.int16).tobytes()
    assert spectral_distance(loud, soft) < 0.5


def test_noise_and_silence_have_no_pitch():
    noise = (1_000 * np.random.default_rng(1).standard_normal(RATE)).astype(np.int16).tobytes()
    with pytest.raises(ValueError, match="no voice"):
        pitch(noise)
    with pytest.raises(ValueError, match="no sound"):
        pitch(bytes(RATE))
