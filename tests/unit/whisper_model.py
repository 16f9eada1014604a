"""The small Whisper model for tests, and speech to try it with."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from greenroom.plugins.whisper import find_model
from greenroom.plugins.whisper.decode import Model
from greenroom.plugins.whisper.features import SAMPLE_RATE, Samples

MODEL = "whisper-tiny"
BEFORE, BEHIND = 0.4, 0.16
"""Seconds of silence around what is said, as a call's end-pointing leaves them."""


def folder(name: str = MODEL) -> Path:
    found = find_model(name)
    if found is None or importlib.util.find_spec("ctranslate2") is None:
        pytest.skip(f"the model is not here: greenroom models get {name}")
    return found


@functools.cache
def load(name: str = MODEL) -> Model:
    return Model(folder(name), threads=1)


def resampled(samples: Samples, rate: int) -> Samples:
    from greenroom import rtc

    pcm = (np.clip(samples, -1, 1) * 32_767).astype(np.int16).tobytes()
    resampler = rtc.AudioResampler(rate, SAMPLE_RATE)
    frames = [*resampler.push(bytearray(pcm)), *resampler.flush()]
    return np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames]).astype(np.float32) / 32_768


def read(path: Path) -> Samples:
    """A 16-bit mono WAV file at 16 kHz."""
    with wave.open(str(path), "rb") as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32_768
    return samples if rate == SAMPLE_RATE else resampled(samples, rate)


@functools.cache
def say(text: str, voice: str = "slt") -> Samples:
    """By flite, or espeak-ng when that is the voice."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"greenroom-say-{os.getpid()}.wav"
    if voice == "espeak-ng":
        command = ["espeak-ng", "-w", str(path), text]
    else:
        command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        speech = read(path)
    finally:
        path.unlink(missing_ok=True)
    return np.pad(speech, (int(BEFORE * SAMPLE_RATE), int(BEHIND * SAMPLE_RATE)))


def pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32_767).astype(np.int16).tobytes()
