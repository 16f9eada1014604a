"""One answer from text to sound: the model's text is cut into sentences while it streams, sentences are synthesised one
ahead of the voice, and the voice starts with the first audio of the first sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from greenroom.agents.conversation.playout import Playout, SpokenSentence
from greenroom.agents.conversation.turn import Stage, Turn
from greenroom.agents.speech.adapters import closing
from greenroom.agents.speech.protocols import TTS, ProviderError
from greenroom.agents.speech.sentences import SentenceSplitter, speakable

__all__ = ["Answer"]

AHEAD_BYTES = 1 << 20
"""Synthesised audio that may wait for the voice; about half a minute at 16 kHz."""
WAITING_SENTENCES = 256


@dataclass(slots=True)
class _Piece:
    sentence: SpokenSentence | None
    """At the beginning of a sentence."""
    pcm: bytes


class Answer:
    """`run()` speaks it to its end. Cancelling `run()` stops everything; then `playout.stop()` silences the room."""

    def __init__(
        self,
        turn: Turn,
        text: AsyncIterator[str],
        tts: TTS,
        playout: Playout,
        *,
        on_voice: Callable[[], None],
        on_sentence: Callable[[str | None], Any],
        hold: bool = False,
    ) -> None:
        """`on_voice()`: the first audio goes out. `await on_sentence(text)`: a sentence begins to be heard (None: it was
        the last). `hold`: text and
        speech are prepared, and nothing is heard before `release()`."""
        self._turn = turn
        self._text = text
        self._tts = tts
        self.playout = playout
        self._on_voice = on_voice
        self.on_sentence = on_sentence
        self._sentences: asyncio.Queue[str | None] = asyncio.Queue(WAITING_SENTENCES)
        self._pieces: asyncio.Queue[_Piece | None] = asyncio.Queue()
        self._ahead = 0
        self._room = asyncio.Event()
        self._room.set()
        self._released = asyncio.Event()
        if not hold:
            self._released.set()

    def release(self) -> None:
        self._released.set()

    async def run(self) -> None:
        """Raises what a provider raised."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._generate(), name="generate")
                group.create_task(self._synthesize(), name="synthesize")
                group.create_task(self._play(), name="play")
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _generate(self) -> None:
        splitter = SentenceSplitter()
        with _own_cancellations("the language model"):
            async with closing(self._text) as deltas:
                async for delta in deltas:
                    if delta:
                        self._turn.mark(Stage.LLM_FIRST_TOKEN)
                        self._turn.agent_text += delta
                        for sentence in splitter.push(delta):
                            await self._sentences.put(sentence)
        self._turn.mark(Stage.LLM_ENDED)
        for sentence in splitter.flush():
            await self._sentences.put(sentence)
        await self._sentences.put(None)

    async def _synthesize(self) -> None:
        while (text := await self._sentences.get()) is not None:
            sentence = SpokenSentence(text)
            # What a voice cannot say is written all the same: it takes its place, and no time.
            announce: SpokenSentence | None = sentence
            spoken = speakable(text)
            if any(character.isalnum() for character in spoken):
                self._turn.mark(Stage.FIRST_SENTENCE)
                with _own_cancellations("the voice"):
                    async with closing(self._tts.synthesize(spoken)) as audio:
                        async for pcm in audio:
                            if not pcm:
                                continue
                            self._turn.mark(Stage.TTS_FIRST_AUDIO)
                            sentence.audio += len(pcm) / 2 / self._tts.sample_rate
                            self._ahead += len(pcm)
                            self._pieces.put_nowait(_Piece(announce, pcm))
                            announce = None
                            if self._ahead > AHEAD_BYTES:
                                self._room.clear()
                                await self._room.wait()
            sentence.whole = True
            if announce is not None:
                self._pieces.put_nowait(_Piece(announce, b""))
        self._turn.mark(Stage.TTS_ENDED)
        self._pieces.put_nowait(None)

    async def _play(self) -> None:
        captions: list[asyncio.Task[Any]] = []
        first = True
        await self._released.wait()
        try:
            while (piece := await self._pieces.get()) is not None:
                self._ahead -= len(piece.pcm)
                if self._ahead <= AHEAD_BYTES // 2:
                    self._room.set()
                if piece.sentence is not None:
                    await self.playout.end()
                    self.playout.begin(piece.sentence)
                if first and piece.pcm:
                    # The voice comes before everything else that happens at this moment.
                    first = False
                    await self.playout.push(piece.pcm[: 2 * 1024])
                    self._turn.mark(Stage.PLAYING)
                    self._on_voice()
                    piece.pcm = piece.pcm[2 * 1024 :]
                if piece.sentence is not None:
                    captions.append(asyncio.ensure_future(self.on_sentence(piece.sentence.text)))
                await self.playout.push(piece.pcm)
            await self.playout.end()
            await self.playout.wait()
        finally:
            await asyncio.gather(*captions, return_exceptions=True)


@contextmanager
def _own_cancellations(who: str) -> Iterator[None]:
    """A provider that was cancelled by something of its own has failed; to a task group it would look like an end."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ProviderError(f"{who} gave up in the middle") from None
