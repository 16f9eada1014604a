"""Log-mel spectrogram, as Whisper and models made from its encoder were trained on: 25 ms windows every 10 ms, Slaney's mel
scale, the loudest 80 dB of the picture."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["HOP", "SAMPLE_RATE", "WINDOW", "Samples", "log_mel", "mel_filters", "samples_of"]

SAMPLE_RATE = 16_000
WINDOW = 400
HOP = 160
_LINEAR = 200.0 / 3.0
"""Hz a mel below 1 kHz on Slaney's scale."""
_LOG_STEP = np.log(6.4) / 27.0
"""Natural logarithm of the ratio that one mel is above 1 kHz."""

Samples = NDArray[np.float32]


def samples_of(pcm: bytes) -> Samples:
    """int16 PCM as -1..1."""
    return np.frombuffer(pcm, np.int16, len(pcm) // 2).astype(np.float32) / np.float32(32_768)


@functools.cache
def mel_filters(n_mels: int = 80) -> Samples:
    """`n_mels` triangles over the 201 frequencies of a window, each of unit area in Hz."""
    top = 15.0 + np.log(SAMPLE_RATE / 2 / 1_000.0) / _LOG_STEP
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < 15.0, mels * _LINEAR, 1_000.0 * np.exp(_LOG_STEP * (mels - 15.0)))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    widths = np.diff(edges)
    ramps = edges[:, None] - frequencies[None, :]
    triangles = np.maximum(0.0, np.minimum(-ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None], np.float32)


@functools.cache
def _hann() -> Samples:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


def log_mel(samples: Samples, *, n_mels: int = 80, length: int | None = None) -> Samples:
    """`n_mels` rows, one column per 10 ms. `length`, in samples: zeros are added behind, or the end is cut, to have so many.

    Raises ValueError for audio too short to be mirrored at its ends (12.5 ms).
    """
    samples = np.asarray(samples, np.float32)
    if length is not None:
        samples = samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))
    if len(samples) <= WINDOW // 2:
        raise ValueError(f"{len(samples)} samples are too few for a spectrogram")
    around = np.pad(samples, WINDOW // 2, mode="reflect")
    count = len(samples) // HOP
    frames = np.lib.stride_tricks.sliding_window_view(around, WINDOW)[: count * HOP : HOP] * _hann()
    spectrum = np.fft.rfft(frames)
    power = spectrum.real**2 + spectrum.imag**2
    energies = mel_filters(n_mels) @ power.astype(np.float32).T
    picture = np.log10(np.maximum(energies, 1e-10))
    picture = np.maximum(picture, picture.max() - 8.0)
    return np.ascontiguousarray((picture + 4.0) / 4.0, np.float32)
