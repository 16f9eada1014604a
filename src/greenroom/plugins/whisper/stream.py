"""Recognition of one track: partial texts while somebody speaks, the final text prepared at the pause that may be the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from greenroom.agents.speech.protocols import PartialCallback, ProviderError, Transcript, reason
from greenroom.plugins.whisper.agreement import Agreement
from greenroom.plugins.whisper.client import Configuration, Died, Line, Skipped
from greenroom.plugins.whisper.features import SAMPLE_RATE
from greenroom.plugins.whisper.recognise import Recognition
from greenroom.tasks import Tasks

__all__ = ["FINISH_TIMEOUT", "MAX_SECONDS", "WhisperStream"]

logger = logging.getLogger("greenroom.whisper")

PARTIAL_EVERY = int(0.5 * SAMPLE_RATE) * 2
FIRST_PARTIAL = int(1.0 * SAMPLE_RATE) * 2
"""Bytes, half a second of which is usually the silence before the first word."""
LULL = int(0.096 * SAMPLE_RATE) * 2
LULL_LEVEL = 0.1
"""When the last 96 ms are softer than this part of the utterance's level, a pause is likely and its final text must not find
the process busy with a partial one."""
MAX_SECONDS = 120.0
"""Of one utterance."""
FINISH_TIMEOUT = 25.0


class WhisperStream:
    """`STTStream`. Made by `Whisper.stream`."""

    def __init__(
        self,
        configuration: Configuration,
        language: str | None,
        hot_words: Sequence[str],
        on_partial: PartialCallback | None,
    ) -> None:
        self._options: dict[str, Any] = {"language": language, "hot_words": list(hot_words)}
        self._on_partial = on_partial
        self._line = Line(configuration)
        self._tasks = Tasks(logger, on_error=_say)
        self._pcm = bytearray()
        self._begin()

    def _begin(self) -> None:
        """A new utterance."""
        self._pcm = bytearray()
        self._too_long = False
        self._judged = 0
        self._partial: asyncio.Task[None] | None = None
        self._prepared: asyncio.Task[Recognition] | None = None
        self._agreement = Agreement()

    def push(self, pcm: bytes) -> None:
        if len(self._pcm) + len(pcm) > MAX_SECONDS * SAMPLE_RATE * 2:
            self._too_long = True
            return
        self._pcm += pcm
        if self._on_partial is None or self._prepared is not None:
            return
        due = max(self._judged + PARTIAL_EVERY, FIRST_PARTIAL)
        if len(self._pcm) >= due and (self._partial is None or self._partial.done()) and not self._lull():
            self._judged = len(self._pcm)
            self._partial = self._tasks.start(self._judge(bytes(self._pcm), self._agreement), "whisper partial")

    def pause(self) -> None:
        if self._prepared is None and not self._too_long:
            self._prepared = self._tasks.start(self._final(bytes(self._pcm)), "whisper final")
            if self._on_partial is not None:
                self._tasks.start(self._show(self._prepared, self._agreement), "whisper prepared")

    def resume(self) -> None:
        if self._prepared is not None:
            self._prepared.cancel()
            self._prepared = None

    def discard(self) -> None:
        self.resume()
        if self._partial is not None:
            self._partial.cancel()
        self._begin()

    async def finish(self) -> Transcript:
        pcm, prepared, too_long = bytes(self._pcm), self._prepared, self._too_long
        self._prepared = None
        self.discard()
        if too_long:
            raise ProviderError(f"the utterance is longer than {MAX_SECONDS:g} s")
        try:
            async with asyncio.timeout(FINISH_TIMEOUT):
                result = await self._result(prepared, pcm)
        except TimeoutError:
            raise ProviderError(f"whisper gave no text within {FINISH_TIMEOUT:g} s") from None
        return Transcript(result.text, float(np.exp(result.log_probability)) if result.text else None)

    async def recognise(self, pcm: bytes, *, words: bool = False) -> Recognition:
        """A recording of its own, beside the utterances. Raises ProviderError."""
        return await self._line.ask(b"F", {**self._options, "words": words}, pcm)

    async def aclose(self) -> None:
        self.discard()
        self._tasks.cancel()
        await self._line.aclose()

    async def _result(self, prepared: asyncio.Task[Recognition] | None, pcm: bytes) -> Recognition:
        if prepared is not None:
            try:
                return await prepared
            except Died as error:
                logger.warning("%s; the utterance is recognised anew", error)
        return await self._final(pcm)

    async def _final(self, pcm: bytes) -> Recognition:
        return await self._line.ask(b"F", self._options, pcm)

    async def _judge(self, pcm: bytes, agreement: Agreement) -> None:
        try:
            result = await self._line.ask(b"P", self._options, pcm)
        except Skipped:
            return
        except ProviderError as error:
            logger.warning("no partial text: %s", reason(error))
            return
        self._tell(agreement, agreement.update(result.text))

    async def _show(self, prepared: asyncio.Task[Recognition], agreement: Agreement) -> None:
        await asyncio.wait([prepared])
        if not prepared.cancelled() and prepared.exception() is None and self._prepared is prepared:
            self._tell(agreement, agreement.prepared(prepared.result().text))

    def _tell(self, agreement: Agreement, text: str | None) -> None:
        if text and agreement is self._agreement and self._on_partial is not None:
            self._on_partial(text)

    def _lull(self) -> bool:
        samples = np.frombuffer(self._pcm, np.int16, len(self._pcm) // 2).astype(np.float32)
        last = samples[-LULL // 2 :]
        return bool(np.sqrt(np.mean(last**2)) < LULL_LEVEL * np.sqrt(np.mean(samples**2)))


def _say(task: asyncio.Task[Any], error: BaseException) -> None:
    """What a prepared text failed with is raised by `finish`, if it still matters then."""
    if isinstance(error, Skipped):
        return
    if isinstance(error, ProviderError):
        logger.warning("%s: %s", task.get_name(), reason(error))
    else:
        logger.error("%s failed", task.get_name(), exc_info=error)
