"""Speech by Piper voices: one network of about 60 MB, several times faster than real time on one processor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from greenroom.agents.speech.protocols import MissingProvider
from greenroom.agents.speech.spoken_text import spoken_text
from greenroom.plugins import shared_process
from greenroom.plugins.voices.client import MODULE, speech
from greenroom.plugins.voices.find import require_model
from greenroom.plugins.voices.phonemes import require_espeak
from greenroom.plugins.voices.session import require_onnxruntime

__all__ = ["Piper"]

NAME = "piper"
MODEL = "greenroom.plugins.piper.model"
SAMPLE_RATE = 22_050
"""Of the default voice, and of all of medium and high quality."""
FILES = {"piper-joe": "en_US-joe-medium.onnx"}
"""The file of each voice that is known by the name of its model."""
SPEEDS = (0.5, 2.0)


class Piper:
    """`TTS` provider.

    `voice`: "piper-joe", or the path of any Piper voice (an `.onnx` file with its `.onnx.json` beside it). `speed`: 0.5 to 2,
    more is faster. `threads`: of the network; two are little sooner and cost a third more.
    """

    def __init__(
        self, voice: str | Path = "piper-joe", *, speed: float = 1.0, threads: int = 1, speaker: int = 0
    ) -> None:
        if not SPEEDS[0] <= speed <= SPEEDS[1]:
            raise ValueError(f"a speed of {speed:g}; it may be {SPEEDS[0]:g} to {SPEEDS[1]:g}")
        self._voice = voice
        self._options: dict[str, Any] = {"speed": speed, "speaker": speaker}
        self._threads = threads
        self._about: tuple[int, str] | None = None

    @property
    def sample_rate(self) -> int:
        return self._describe()[0]

    def require(self) -> None:
        """Raises MissingProvider for whatever is not there: model, onnxruntime, espeak-ng. Cheap."""
        self.configuration()

    def load(self) -> None:
        """Start the process that holds the network, and wait until it is loaded (about a second)."""
        shared_process.start(NAME, MODULE, self.configuration())

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        configuration = self.configuration()
        said = spoken_text(text, language=self._describe()[1])
        async with aclosing(speech(NAME, configuration, said, self._options)) as audio:
            async for pcm in audio:
                yield pcm

    def configuration(self) -> dict[str, Any]:
        """What the process is started with. Raises MissingProvider for whatever is not there."""
        require_onnxruntime()
        require_espeak()
        return {"model": MODEL, "file": str(self._file()), "threads": self._threads}

    def _file(self) -> Path:
        if isinstance(self._voice, str) and self._voice in FILES:
            file = FILES[self._voice]
            return require_model(self._voice, file, f"{file}.json") / file
        path = Path(self._voice)
        if not path.is_file():
            raise MissingProvider(f"the Piper voice {path}", f"name a file, or one of: {', '.join(FILES)}")
        return path

    def _describe(self) -> tuple[int, str]:
        """Sample rate and language of the voice."""
        if isinstance(self._voice, str) and self._voice in FILES:
            return SAMPLE_RATE, "en-us"
        if self._about is None:
            path = self._file()
            about = json.loads(path.with_name(f"{path.name}.json").read_text())
            self._about = int(about["audio"]["sample_rate"]), str(about["espeak"]["voice"])
        return self._about
