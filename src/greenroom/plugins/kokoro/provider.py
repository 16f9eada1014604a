"""Speech by Kokoro: fuller voices than Piper's, at five times the cost."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from greenroom.agents.speech.spoken_text import spoken_text
from greenroom.plugins import shared_process
from greenroom.plugins.kokoro.model import NETWORK, SAMPLE_RATE, KokoroModel
from greenroom.plugins.voices.client import MODULE, speech
from greenroom.plugins.voices.find import require_model
from greenroom.plugins.voices.phonemes import require_espeak
from greenroom.plugins.voices.session import require_onnxruntime

__all__ = ["Kokoro", "measure"]

NAME = "kokoro"
MODEL = "greenroom.plugins.kokoro.model"
SPEEDS = (0.5, 2.0)
_VOICE = re.compile(r"[ab][fm]_[a-z]+")
MEASURED = "The train to London leaves at half past seven from platform nine."


class Kokoro:
    """`TTS` provider.

    `voice`: American (`af_heart`, `af_bella`, `am_michael` ...) or British (`bf_emma`, `bm_george` ...), one of those in the
    model's folder. `speed`: 0.5 to 2. `threads`: of the network; it needs two to keep up with itself on most machines.
    """

    def __init__(self, voice: str = "af_heart", *, speed: float = 1.0, threads: int = 2) -> None:
        if not _VOICE.fullmatch(voice):
            raise ValueError(f"no English voice of Kokoro has the name {voice!r}")
        if not SPEEDS[0] <= speed <= SPEEDS[1]:
            raise ValueError(f"a speed of {speed:g}; it may be {SPEEDS[0]:g} to {SPEEDS[1]:g}")
        self._voice = voice
        self._options = {"voice": voice, "speed": speed}
        self._threads = threads

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    def require(self) -> None:
        """Raises MissingProvider for whatever is not there: model, onnxruntime, espeak-ng. Cheap."""
        self.configuration()

    def load(self) -> None:
        """Start the process that holds the network, and wait until it is loaded (about two seconds)."""
        shared_process.start(NAME, MODULE, self.configuration())

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        said = spoken_text(text, language="en-gb" if self._voice.startswith("b") else "en-us")
        async with aclosing(speech(NAME, self.configuration(), said, self._options)) as audio:
            async for pcm in audio:
                yield pcm

    def configuration(self) -> dict[str, Any]:
        """What the process is started with. Raises MissingProvider for whatever is not there."""
        require_onnxruntime()
        require_espeak()
        folder = require_model("kokoro", NETWORK, f"voices/{self._voice}.bin")
        return {"model": MODEL, "folder": str(folder), "threads": self._threads, "parallel": 1}


def measure() -> float:
    """The real-time factor of Kokoro on this machine: seconds of work for a second of speech. Below 0.7 it keeps up with a
    conversation. Blocking, some seconds. Raises MissingProvider."""
    require_espeak()
    model = KokoroModel(require_model("kokoro", NETWORK, "voices/af_heart.bin"))
    options = {"voice": "af_heart"}
    best = float("inf")
    for _ in range(3):
        started, sound = time.perf_counter(), 0
        for piece in model.plan(MEASURED, options):
            sound += sum(len(each) for each in model.render(piece, options))
        best = min(best, (time.perf_counter() - started) * SAMPLE_RATE / sound)
    return best
