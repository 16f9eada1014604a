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
from greenroom.plugins.whisper.settled import WORDS_FROM, Settled
from greenroom.tasks import Tasks

__all__ = ["FINISH_TIMEOUT", "MAX_SECONDS", "WhisperStream"]

logger = logging.getLogger("greenroom.whisper")

PARTIAL_EVERY = int(0.5 * SAMPLE_RATE) * 2
FIRST_PARTIAL = int(1.0 * SAMPLE_RATE) * 2
"""Bytes, half a second of which is usually the silence before the first word."""
LULL = int(0.096 * SAMPLE_RATE) * 2
LULL_AMONG = 3 * SAMPLE_RATE * 2
LULL_LEVEL = 0.1
"""When the last 96 ms are softer than this part of the level of the last 3 s, a pause is likely and its final text must not find
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
        self._begin()

    def _begin(self) -> None:
        """A new utterance."""
        self._settled = Settled()
        self._pushed = 0
        self._too_long = False
        self._judged = 0
        self._partial: asyncio.Task[None] | None = None
        self._prepared: asyncio.Task[Recognition] | None = None
        self._agreement = Agreement()

    def push(self, pcm: bytes) -> None:
        if self._pushed + len(pcm) > MAX_SECONDS * SAMPLE_RATE * 2:
            self._too_long = True
            return
        self._settled.pcm += pcm
        self._pushed += len(pcm)
        if self._prepared is not None or (self._on_partial is None and self._settled.seconds < WORDS_FROM):
            return
        due = max(self._judged + PARTIAL_EVERY, FIRST_PARTIAL)
        if self._pushed >= due and (self._partial is None or self._partial.done()) and not self._lull():
            self._judged = self._pushed
            self._partial = self._tasks.start(self._judge(self._settled, self._agreement), "whisper partial")

    def pause(self) -> None:
        if self._prepared is None and not self._too_long:
            # What a partial text under way would settle is in the audio that is decoded now.
            self._stop_partial()
            self._prepared = self._tasks.start(self._final(self._settled), "whisper final")
            if self._on_partial is not None:
                self._tasks.start(self._show(self._prepared, self._settled, self._agreement), "whisper prepared")

    def resume(self) -> None:
        if self._prepared is not None:
            self._prepared.cancel()
            self._prepared = None

    def discard(self) -> None:
        self.resume()
        self._stop_partial()
        self._begin()

    async def finish(self) -> Transcript:
        settled, prepared, too_long = self._settled, self._prepared, self._too_long
        self._prepared = None
        self.discard()
        if too_long:
            raise ProviderError(f"the utterance is longer than {MAX_SECONDS:g} s")
        try:
            async with asyncio.timeout(FINISH_TIMEOUT):
                result = await self._result(prepared, settled)
        except TimeoutError:
            raise ProviderError(f"whisper gave no text within {FINISH_TIMEOUT:g} s") from None
        text = settled.whole(result.text)
        return Transcript(text, float(np.exp(result.log_probability)) if text else None)

    @property
    def busy(self) -> bool:
        """Whether something is being decoded for this stream."""
        return len(self._tasks) > 0

    async def recognise(self, pcm: bytes, *, words: bool = False) -> Recognition:
        """A recording of its own, beside the utterances. Raises ProviderError."""
        return await self._line.ask(b"F", {**self._options, "words": words}, pcm)

    async def aclose(self) -> None:
        self.discard()
        self._tasks.cancel()
        await self._line.aclose()

    async def _result(self, prepared: asyncio.Task[Recognition] | None, settled: Settled) -> Recognition:
        if prepared is not None:
            try:
                return await prepared
            except Died as error:
                logger.warning("%s; the utterance is recognised anew", error)
        return await self._final(settled)

    async def _final(self, settled: Settled) -> Recognition:
        return await self._line.ask(b"F", self._options, bytes(settled.pcm))

    async def _judge(self, settled: Settled, agreement: Agreement) -> None:
        pcm = bytes(settled.pcm)
        seconds = settled.seconds
        try:
            result = await self._line.ask(b"P", {**self._options, "words": seconds >= WORDS_FROM}, pcm)
        except Skipped:
            return
        except ProviderError as error:
            logger.warning("no partial text: %s", reason(error))
            return
        text = settled.whole(result.text)
        settled.judge(result, seconds)
        self._tell(agreement, agreement.update(text))

    def _stop_partial(self) -> None:
        if self._partial is not None:
            self._partial.cancel()
            self._partial = None

    async def _show(self, prepared: asyncio.Task[Recognition], settled: Settled, agreement: Agreement) -> None:
        await asyncio.wait([prepared])
        if not prepared.cancelled() and prepared.exception() is None and self._prepared is prepared:
            self._tell(agreement, agreement.prepared(settled.whole(prepared.result().text)))

    def _tell(self, agreement: Agreement, text: str | None) -> None:
        if text and agreement is self._agreement and self._on_partial is not None:
            self._on_partial(text)

    def _lull(self) -> bool:
        samples = np.frombuffer(bytes(self._settled.pcm[-LULL_AMONG:]), np.int16).astype(np.float32)
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
