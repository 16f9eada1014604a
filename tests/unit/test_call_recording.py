"""A call as a sound file: both sides, each at its time."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from greenroom.agents.caller import Recording, recording as module


def sound(seconds: float, level: int, rate: int = 16_000) -> bytes:
    return np.full(int(seconds * rate), level, np.int16).tobytes()


def sides(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with wave.open(str(path), "rb") as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (2, 2, 16_000)
        both = np.frombuffer(wav.readframes(wav.getnframes()), np.int16).reshape(-1, 2)
    return both[:, 0], both[:, 1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0)
    return 100.0


def test_the_caller_is_left_and_the_agent_right_each_at_its_time(tmp_path: Path, clock: float) -> None:
    recording = Recording(tmp_path / "call.wav")
    recording.caller(sound(0.5, 1_000, rate=8_000), 8_000, clock + 1.0)
    # Frames of 10 ms that come a little early and late are one sound.
    for number in range(50):
        recording.agent(sound(0.01, -2_000), clock + 2.0 + number * 0.01 + (number % 3) * 0.02)
    recording.close()
    recording.close()
    left, right = sides(tmp_path / "call.wav")
    assert len(left) == len(right) == 2.5 * 16_000
    heard = np.flatnonzero(np.abs(left) > 500) / 16_000
    assert (heard[0], heard[-1]) == pytest.approx((1.0, 1.5), abs=0.01)
    assert np.flatnonzero(right).tolist() == list(range(2 * 16_000, int(2.5 * 16_000)))


def test_a_pause_of_the_sender_is_silence(tmp_path: Path, clock: float) -> None:
    recording = Recording(tmp_path / "call.wav")
    recording.agent(sound(0.1, 900), clock)
    recording.agent(sound(0.1, 900), clock + 1.0)
    recording.close()
    _, right = sides(tmp_path / "call.wav")
    assert len(right) == 1.1 * 16_000
    assert not right[1_600:16_000].any()


def test_what_comes_after_the_longest_call_is_left_out(
    tmp_path: Path, clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 1)
    recording = Recording(tmp_path / "call.wav")
    recording.agent(sound(0.6, 900), clock)
    recording.agent(sound(0.6, 900), clock + 0.6)
    recording.caller(sound(1.0, 900), 16_000, clock + 3_000)
    recording.close()
    left, right = sides(tmp_path / "call.wav")
    assert len(right) == 16_000
    assert not left.any()


def test_a_file_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Recording(tmp_path / "nowhere" / "call.wav")
