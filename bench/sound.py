"""What a call does to a voice: noise of the place, and the band and the coding of a telephone. Mono int16 PCM throughout."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from greenroom import rtc

__all__ = ["RATE", "babble", "mix", "mu_law", "mu_law_decoded", "pink_noise", "read_wav", "resampled", "telephone"]

RATE = 16_000
"""Hz, of what recognisers hear."""
TELEPHONE_RATE = 8_000
TELEPHONE_BAND = 300.0, 3_400.0
ACTIVE_DB = 35.0
"""Blocks that are softer than the loudest by more than this are pauses, which have no part in a voice's level."""
BLOCK = 320
MU_LAW_BIAS, MU_LAW_CLIP = 132, 32_635


def read_wav(path: Path) -> bytes:
    """At 16 kHz."""
    with wave.open(str(path), "rb") as file:
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    return resampled(pcm, rate, RATE)


def resampled(pcm: bytes, rate: int, to: int) -> bytes:
    if rate == to:
        return pcm
    resampler = rtc.AudioResampler(rate, to)
    return b"".join(bytes(frame.data.cast("B")) for frame in (*resampler.push(bytearray(pcm)), *resampler.flush()))


def pink_noise(samples: int, seed: int) -> np.ndarray:
    """As much power in each octave; float64, with a power of 1. The same seed gives the same noise."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt(np.mean(noise**2))


def babble(voices: Sequence[bytes], samples: int, seed: int) -> np.ndarray:
    """All of `voices` at once, each equally loud and from a place of its own, over and over; float64, with a power of 1.
    ValueError for none, or one without sound."""
    random = np.random.default_rng(seed)
    together = np.zeros(samples)
    for pcm in voices:
        voice = np.frombuffer(pcm, np.int16).astype(np.float64)
        if not voice.any():
            raise ValueError("a voice of the babble is silent")
        voice = np.roll(voice / np.sqrt(np.mean(voice**2)), int(random.integers(len(voice))))
        together += np.resize(voice, samples)
    if not together.any():
        raise ValueError("no babble without voices")
    return together / np.sqrt(np.mean(together**2))


def mix(pcm: bytes, noise: np.ndarray, snr_db: float) -> bytes:
    """`pcm` with `noise` (at least as long) added, softer by `snr_db` than the voice is while it speaks. What would be too
    loud for 16 bits is made softer as a whole. ValueError for a voice without sound."""
    voice = np.frombuffer(pcm, np.int16).astype(np.float64)
    if len(noise) < len(voice):
        raise ValueError(f"{len(noise)} samples of noise for {len(voice)} of a voice")
    noise = noise[: len(voice)]
    level = np.sqrt(_active_power(voice) / np.mean(noise**2) / 10 ** (snr_db / 10))
    together = voice + level * noise
    return (together * min(1.0, 32_767 / np.abs(together).max())).round().astype(np.int16).tobytes()


def _active_power(voice: np.ndarray) -> float:
    blocks = voice[: len(voice) // BLOCK * BLOCK].reshape(-1, BLOCK)
    power = np.mean(blocks**2, axis=1) if len(blocks) else np.array([np.mean(voice**2)])
    if not power.any():
        raise ValueError("a voice without sound has no level")
    return float(power[power >= power.max() / 10 ** (ACTIVE_DB / 10)].mean())


def telephone(pcm: bytes) -> bytes:
    """16 kHz in and out; in between 8 kHz, 300 to 3,400 Hz, and G.711 mu-law."""
    narrow = np.frombuffer(resampled(pcm, RATE, TELEPHONE_RATE), np.int16).astype(np.float64)
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    spectrum[(frequencies < TELEPHONE_BAND[0]) | (frequencies > TELEPHONE_BAND[1])] = 0
    band = np.clip(np.fft.irfft(spectrum, len(narrow)).round(), -32_768, 32_767).astype(np.int16)
    return resampled(mu_law_decoded(mu_law(band)).tobytes(), TELEPHONE_RATE, RATE)


def mu_law(samples: np.ndarray) -> np.ndarray:
    """G.711 mu-law: int16 samples as bytes (uint8), sign, three bits of exponent, four of mantissa, all inverted."""
    wide = samples.astype(np.int32)
    magnitude = np.minimum(np.abs(wide), MU_LAW_CLIP) + MU_LAW_BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return (~(((wide < 0) << 7) | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)


def mu_law_decoded(codes: np.ndarray) -> np.ndarray:
    """The int16 samples in the middle of each code's interval."""
    bits = ~codes.astype(np.int32) & 0xFF
    magnitude = ((((bits & 0x0F) << 3) + MU_LAW_BIAS) << ((bits >> 4) & 7)) - MU_LAW_BIAS
    return np.where(bits & 0x80, -magnitude, magnitude).astype(np.int16)
