"""Recognition by faster-whisper, for those who have it and a model. Better than the built-in recogniser and slower.

`GREENROOM_WHISPER_MODEL`: a folder with a converted model, or a size that the library knows ("base.en") and fetches.
Whisper hears whole utterances: partials come from decoding what there is so far, again and again, in one thread.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from greenroom.agents.speech.protocols import (
    VAD_SAMPLE_RATE,
    MissingProvider,
    PartialCallback,
    ProviderError,
    Transcript,
)
from greenroom.extras import install_command

__all__ = ["FasterWhisper"]

PARTIAL_EVERY = int(0.8 * VAD_SAMPLE_RATE) * 2
MAX_UTTERANCE_BYTES = 30 * VAD_SAMPLE_RATE * 2
FINISH_TIMEOUT = 60.0


@functools.cache
def _model(name: str, compute_type: str) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(name, device="cpu", compute_type=compute_type)


class FasterWhisper:
    """`STT` provider."""

    def __init__(self, model: str | None = None, *, language: str = "en", compute_type: str = "int8") -> None:
        self._name = model or os.environ.get("GREENROOM_WHISPER_MODEL") or "base.en"
        self._language = language
        self._compute_type = compute_type

    def load(self) -> None:
        """Only checks that the library is there: its model starts threads, which a forked process would not have."""
        if importlib.util.find_spec("faster_whisper") is None:
            raise MissingProvider("speech recognition (faster-whisper)", install_command("whisper"))

    def stream(self, on_partial: PartialCallback | None = None) -> _Stream:
        self.load()
        return _Stream(self._transcribe, on_partial)

    def _transcribe(self, pcm: bytes) -> str:
        samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0
        segments, _ = _model(self._name, self._compute_type).transcribe(
            samples, language=self._language, beam_size=1, condition_on_previous_text=False, without_timestamps=True
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


class _Stream:
    def __init__(self, transcribe: Any, on_partial: PartialCallback | None) -> None:
        self._transcribe = transcribe
        self._on_partial = on_partial
        self._thread = ThreadPoolExecutor(1, "whisper")
        self._pcm = bytearray()
        self._judged = 0
        self._utterance = 0
        self._busy = False
        self._prepared: asyncio.Future[str] | None = None

    def push(self, pcm: bytes) -> None:
        if len(self._pcm) < MAX_UTTERANCE_BYTES:
            self._pcm += pcm
        if self._on_partial is not None and not self._busy and len(self._pcm) - self._judged > PARTIAL_EVERY:
            self._judged = len(self._pcm)
            self._busy = True
            number = self._utterance
            self._run(bytes(self._pcm)).add_done_callback(lambda done: self._partial(done, number))

    def pause(self) -> None:
        self._prepared = self._run(bytes(self._pcm))

    def resume(self) -> None:
        self._prepared = None

    def discard(self) -> None:
        self._pcm.clear()
        self._prepared = None
        self._judged = 0
        self._utterance += 1

    async def finish(self) -> Transcript:
        prepared = self._prepared or self._run(bytes(self._pcm))
        self.discard()
        try:
            return Transcript(await asyncio.wait_for(asyncio.shield(prepared), FINISH_TIMEOUT))
        except TimeoutError:
            raise ProviderError(f"faster-whisper gave no text within {FINISH_TIMEOUT:g} s") from None
        except (RuntimeError, ValueError, OSError) as error:
            raise ProviderError(f"faster-whisper failed: {error}") from error

    async def aclose(self) -> None:
        self.discard()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, pcm: bytes) -> asyncio.Future[str]:
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._transcribe, pcm)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return work

    def _partial(self, done: asyncio.Future[str], utterance: int) -> None:
        self._busy = False
        if not done.cancelled() and done.exception() is None and utterance == self._utterance and self._on_partial:
            self._on_partial(done.result())
