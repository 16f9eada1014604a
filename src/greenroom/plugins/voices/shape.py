"""Sound as a network gives it, made fit to be played piece after piece: no silence before the first sound, a pause of the
right length between pieces, no clicks where they meet, no sample beyond the range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["PAUSES", "Shaper", "samples"]

Samples = npt.NDArray[np.float32]

PAUSES = {"": 0.0, ",": 0.16, ";": 0.22, ":": 0.22, ".": 0.32, "!": 0.32, "?": 0.32}
"""Seconds of silence after a piece that ends with that mark, where another follows."""
AUDIBLE = 0.006
"""Amplitude of the weakest sound that counts as speech. What the networks put out as silence stays below 0.002."""
LEAD = 0.015
"""Seconds before the first audible sample that are kept: consonants begin softly."""
TAIL = 0.040
FADE = 0.005
KNEE = 0.85


def samples(sound: Samples) -> bytes:
    """int16 PCM. What is louder than the range allows is bent, not cut: above the knee the curve approaches 1."""
    loud = np.abs(sound)
    over = loud > KNEE
    if over.any():
        bent = KNEE + (1 - KNEE) * np.tanh((loud - KNEE) / (1 - KNEE))
        sound = np.where(over, np.sign(sound) * bent, sound).astype(np.float32)
    return np.rint(sound * 32_767).astype(np.int16).tobytes()


class Shaper:
    """The sound of one sentence. Feed it the chunks of a piece, `end` each piece; what they return is to be played."""

    def __init__(self, sample_rate: int, *, gain: float = 1.0) -> None:
        self._gain = gain
        self._rate = sample_rate
        self._lead = int(LEAD * sample_rate)
        self._fade = int(FADE * sample_rate)
        self._begun = False
        self._held: Samples = np.zeros(0, np.float32)
        """Not audible so far: before the first sound, or after the last."""

    def feed(self, sound: Samples) -> bytes:
        sound = np.concatenate([self._held, sound * self._gain])
        loud = np.flatnonzero(np.abs(sound) > AUDIBLE)
        if not len(loud):
            self._held = sound if self._begun else sound[-self._lead :]
            return b""
        start, end = 0, int(loud[-1]) + 1
        if not self._begun:
            self._begun = True
            start = max(0, int(loud[0]) - self._lead)
            ramp = sound[start : start + min(self._fade, end - start)]
            ramp *= np.linspace(0, 1, len(ramp), endpoint=False, dtype=np.float32)
        self._held = sound[end:].copy()
        return samples(sound[start:end])

    def end(self, pause: float) -> bytes:
        """What is left of the piece, and `pause` seconds of silence counted from its last sound."""
        tail = self._held[: int(TAIL * self._rate)]
        if self._begun and len(tail):
            tail = tail * np.linspace(1, 0, len(tail), dtype=np.float32)
        else:
            tail = tail[:0]
        rest = max(0, int(pause * self._rate) - len(tail))
        self._begun = False
        self._held = np.zeros(0, np.float32)
        return samples(np.concatenate([tail, np.zeros(rest, np.float32)]))
