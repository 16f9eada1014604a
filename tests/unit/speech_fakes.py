"""Providers and a room for tests of the conversation: instant, observable, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from greenroom.agents.speech import ChatMessage, ProviderError, Transcript

RATE = 16_000


class FakeVAD:
    """Speech is where the audio is not silent."""

    def load(self) -> None: ...

    def stream(self) -> FakeVAD:
        return self

    def reset(self) -> None: ...

    def probability(self, frame: bytes) -> float:
        return 1.0 if any(frame) else 0.0


class FakeSTT:
    """Understands the texts given, one per utterance."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.guesses: list[str] = []
        """What it makes of the utterance at each pause."""
        self._on_partial: Callable[[str], None] | None = None

    def load(self) -> None: ...

    def stream(self, on_partial: Callable[[str], None] | None = None) -> FakeSTT:
        self._on_partial = on_partial
        return self

    def push(self, pcm: bytes) -> None: ...

    def pause(self) -> None:
        if self.guesses and self._on_partial is not None:
            asyncio.get_running_loop().call_soon(self._on_partial, self.guesses.pop(0))

    def resume(self) -> None: ...
    def discard(self) -> None: ...

    async def finish(self) -> Transcript:
        return Transcript(self.texts.pop(0) if self.texts else "")

    async def aclose(self) -> None: ...


class FakeTTS:
    """`seconds_per_word` of a constant tone for each word, in pieces of 40 ms."""

    sample_rate = RATE

    def __init__(self, seconds_per_word: float = 0.02) -> None:
        self.seconds_per_word = seconds_per_word
        self.spoken: list[str] = []
        self.fail = False

    def load(self) -> None: ...

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        if self.fail:
            raise ProviderError("no voice")
        self.spoken.append(text)
        samples = int(len(text.split()) * self.seconds_per_word * RATE)
        for start in range(0, samples, 640):
            yield b"\x01\x10" * min(640, samples - start)


class FakeLLM:
    """Answers with `reply(messages)`, word by word; `hold` keeps it before the first word."""

    def __init__(self, reply: str | Callable[[Sequence[ChatMessage]], str] = "All right.") -> None:
        self.reply = reply
        self.asked: list[list[ChatMessage]] = []
        self.hold: asyncio.Event | None = None
        self.fail: Exception | None = None
        self.closed = 0

    async def chat(self, messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        self.asked.append(list(messages))
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.fail is not None:
                raise self.fail
            text = self.reply if isinstance(self.reply, str) else self.reply(messages)
            for word in text.split(" "):
                yield word + " "
                await asyncio.sleep(0)
        finally:
            self.closed += 1


class FakeSink:
    """An audio source that plays in real time and remembers what was played."""

    def __init__(self, queue: float = 0.2) -> None:
        self._queue = queue
        self._end = 0.0
        self.frames: list[bytes] = []
        self.cleared = 0

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def queued_duration(self) -> float:
        return max(0.0, self._end - self._now)

    async def capture_frame(self, frame: bytes) -> None:
        while self.queued_duration > self._queue:
            await asyncio.sleep(0.005)
        self.frames.append(frame)
        self._end = max(self._end, self._now) + len(frame) / 2 / RATE

    async def wait_for_playout(self) -> None:
        while self.queued_duration > 0:
            await asyncio.sleep(0.005)

    def clear_queue(self) -> None:
        self.cleared += 1
        self._end = 0.0


class FakeWriter:
    def __init__(self, stream: dict[str, Any]) -> None:
        self._stream = stream

    async def write(self, text: str) -> None:
        self._stream["text"] += text

    async def aclose(self, *, attributes: dict[str, str] | None = None) -> None:
        self._stream["attributes"].update(attributes or {})
        self._stream["closed"] = True


class FakeParticipant:
    identity = "agent"

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}
        self.states: list[str] = []
        self.streams: list[dict[str, Any]] = []
        self.texts: list[tuple[str, str, list[str] | None]] = []

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes.update(attributes)
        self.states.append(attributes["lk.agent.state"])

    async def stream_text(
        self, *, topic: str, attributes: dict[str, str], sender_identity: str = "agent"
    ) -> FakeWriter:
        stream = {
            "topic": topic,
            "attributes": dict(attributes),
            "sender": sender_identity,
            "text": "",
            "closed": False,
        }
        self.streams.append(stream)
        return FakeWriter(stream)

    async def send_text(self, text: str, *, topic: str, destination_identities: list[str] | None = None) -> None:
        self.texts.append((topic, text, destination_identities))


class FakeRoom:
    def __init__(self) -> None:
        self.local_participant = FakeParticipant()
        self.connected = True
        self.handlers: dict[str, Callable[[Any, str], None]] = {}

    def register_text_stream_handler(self, topic: str, handler: Callable[[Any, str], None]) -> None:
        self.handlers[topic] = handler

    def unregister_text_stream_handler(self, topic: str) -> None:
        self.handlers.pop(topic, None)

    def isconnected(self) -> bool:
        return self.connected


class FakeReader:
    """A text stream in pieces, as they are read: `read` counts the characters."""

    def __init__(self, *pieces: str) -> None:
        self._pieces = list(pieces)
        self.read = 0
        self.closed = False

    def __aiter__(self) -> FakeReader:
        return self

    async def __anext__(self) -> str:
        if self.closed or not self._pieces:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        piece = self._pieces.pop(0)
        self.read += len(piece)
        return piece

    def close(self) -> None:
        self.closed = True


class FakeTrack:
    """A track as an async iterable of 20 ms chunks; `talk` and `hush` fill it in real time."""

    def __init__(self, sid: str = "TR_mic") -> None:
        self.sid = sid
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def __aiter__(self) -> FakeTrack:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.get()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def talk(self, seconds: float) -> None:
        await self._fill(b"\x00\x10" * 320, seconds)

    async def hush(self, seconds: float) -> None:
        await self._fill(bytes(640), seconds)

    async def _fill(self, chunk: bytes, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self._chunks.put_nowait(chunk)
            await asyncio.sleep(0.02)

    def end(self) -> None:
        self._chunks.put_nowait(None)


class FakeRemote:
    def __init__(self, identity: str = "alice") -> None:
        self.identity = identity
