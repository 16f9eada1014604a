"""Any OpenAI-compatible endpoint: chat completions (streamed), transcriptions and speech, over `aiohttp`.

Configuration, each also an argument: `OPENAI_BASE_URL` (default https://api.openai.com/v1), `OPENAI_API_KEY` (may be empty
for local servers), `OPENAI_MODEL`, `OPENAI_STT_MODEL`, `OPENAI_TTS_MODEL`, `OPENAI_TTS_VOICE`.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import wave
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from greenroom.agents.speech.adapters import closing
from greenroom.agents.speech.protocols import (
    VAD_SAMPLE_RATE,
    ChatMessage,
    PartialCallback,
    ProviderError,
    Transcript,
)
from greenroom.plugins.openai_http import Endpoint, TooLong, error_in, failure
from greenroom.plugins.sse import ServerEvent, events

__all__ = ["OpenAILLM", "OpenAISTT", "OpenAITTS"]

logger = logging.getLogger("greenroom.openai")

MAX_BODY = 1 << 20
"""Bytes of an answer that does not stream."""
MAX_UTTERANCE_BYTES = 60 * VAD_SAMPLE_RATE * 2


class OpenAILLM(Endpoint):
    """`LLM` provider: `POST /chat/completions` with `stream: true`.

    A conversation that outgrows the model's context goes on without the older half of it, as often as it takes.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(base_url, api_key)
        self._model = model or os.environ.get("OPENAI_MODEL") or "gpt-4o-mini"
        self._options = {"temperature": temperature, "max_tokens": max_tokens}

    async def chat(self, messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        asked = list(messages)
        begun = False
        while True:
            try:
                async with closing(self._ask(asked)) as deltas:
                    async for delta in deltas:
                        begun = True
                        yield delta
                return
            except TooLong:
                shorter = _recent(asked)
                if begun or len(shorter) == len(asked):
                    raise
                logger.warning("%d messages are too long for the model: asking with %d", len(asked), len(shorter))
                asked = shorter

    def _ask(self, messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        body = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": True,
            **{name: value for name, value in self._options.items() if value is not None},
        }
        return self.request("/chat/completions", lambda: {"json": body}, _read_chat)


def _recent(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system's messages and the newer half of what was said, from a user's message on: templates insist on that."""
    said = [message for message in messages if message.role != "system"]
    kept = said[(len(said) + 1) // 2 :] or said
    while len(kept) > 1 and kept[0].role != "user":
        del kept[0]
    return [*(message for message in messages if message.role == "system"), *kept]


async def _read_chat(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The text of a chat completion, streamed or whole: some servers ignore `stream`."""
    if response.content_type == "application/json":
        if text := _text(await _read_json(response), "message"):
            yield text
        return
    chunks = anything = 0
    try:
        async with closing(events(response.content.iter_any())) as stream:
            async for event in stream:
                anything += 1
                if event.data.strip() == b"[DONE]":
                    break
                if not event.data.strip():
                    continue
                chunk = _chunk(event)
                if delta := _text(chunk, "delta"):
                    chunks += 1
                    yield delta
                elif not chunks and _finish_reason(chunk) == "content_filter":
                    raise ProviderError("the model's answer was withheld by the server's content filter")
                elif not chunks and _finish_reason(chunk) == "length":
                    # Thoughts that used up all that may be said; a context that the prompt fills.
                    raise ProviderError("the model's limit of tokens was reached before the first word of its answer")
    except ValueError as error:
        raise ProviderError(f"the model sent something else than chat completions: {error}") from error
    if not anything:
        raise ProviderError(f"the model sent something else than chat completions: {response.content_type}, no event")


def _chunk(event: ServerEvent) -> Any:
    """Raises ProviderError for an error, and for what is no JSON."""
    try:
        chunk = json.loads(event.data)
    except ValueError as error:
        kind = "failed" if event.name == "error" else "sent something else than chat completions"
        raise ProviderError(f"the model {kind}: {event.data[:200]!r}") from error
    if said := error_in(chunk):
        raise failure(f"the model failed: {said}", str(chunk))
    if event.name == "error":
        raise ProviderError(f"the model failed: {event.data[:200]!r}")
    return chunk


def _choice(chunk: Any) -> dict[str, Any]:
    """The first choice; empty where there is none: chunks about usage, prompt filters and keep-alives have none.

    Raises ProviderError for what cannot be a chunk.
    """
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices") or [], list):
        raise ProviderError(f"the model sent something else than chat completions: {str(chunk)[:200]}")
    for choice in chunk.get("choices") or []:
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return {}


def _finish_reason(chunk: Any) -> Any:
    return _choice(chunk).get("finish_reason")


def _text(chunk: Any, where: str) -> str:
    """The text in `choices[0].delta` or `.message`, which may be null or missing; "" when there is none."""
    part = _choice(chunk).get(where) or {}
    content = part.get("content") or part.get("refusal") or "" if isinstance(part, dict) else part
    if isinstance(content, list):
        # Parts, of which those with text count.
        content = "".join(str(each.get("text") or "") for each in content if isinstance(each, dict))
    if not isinstance(content, str):
        raise ProviderError(f"the model sent something else than chat completions: {str(chunk)[:200]}")
    return content


async def _read_json(response: aiohttp.ClientResponse) -> Any:
    """Raises ProviderError for an error, and for what is no JSON, or too much of it."""
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > MAX_BODY:
            raise ProviderError(f"the answer is longer than {MAX_BODY} bytes")
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ProviderError(f"the answer is something else than JSON: {bytes(body[:200])!r}") from error
    if said := error_in(answer):
        raise failure(f"the server failed: {said}", str(answer))
    return answer


class OpenAITTS(Endpoint):
    """`TTS` provider: `POST /audio/speech` with `response_format: pcm` (24 kHz)."""

    def __init__(
        self,
        model: str | None = None,
        voice: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        super().__init__(base_url, api_key)
        self._model = model or os.environ.get("OPENAI_TTS_MODEL") or "gpt-4o-mini-tts"
        self._voice = voice or os.environ.get("OPENAI_TTS_VOICE") or "alloy"

    @property
    def sample_rate(self) -> int:
        return 24_000

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        body = {"model": self._model, "voice": self._voice, "input": text, "response_format": "pcm"}
        async with closing(self.request("/audio/speech", lambda: {"json": body}, _read_pcm)) as pieces:
            async for pcm in pieces:
                yield pcm


async def _read_pcm(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole samples."""
    if response.content_type == "application/json":
        raise ProviderError(f"the server sent no speech: {str(await _read_json(response))[:200]}")
    odd = b""
    async for data in response.content.iter_any():
        data = odd + data
        odd = data[len(data) - len(data) % 2 :]
        if whole := data[: len(data) - len(odd)]:
            yield whole


class OpenAISTT(Endpoint):
    """`STT` provider: each utterance as a WAV file to `POST /audio/transcriptions`. No partials."""

    def __init__(
        self,
        model: str | None = None,
        *,
        language: str = "en",
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        super().__init__(base_url, api_key)
        self._model = model or os.environ.get("OPENAI_STT_MODEL") or "whisper-1"
        self._language = language

    def stream(self, on_partial: PartialCallback | None = None) -> _STTStream:
        return _STTStream(self)

    async def transcribe(self, pcm: bytes) -> Transcript:
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setparams((1, 2, VAD_SAMPLE_RATE, 0, "NONE", ""))
            wav.writeframes(pcm)
        recording = file.getvalue()

        def body() -> dict[str, Any]:
            form = aiohttp.FormData()
            form.add_field("file", recording, filename="speech.wav", content_type="audio/wav")
            form.add_field("model", self._model)
            form.add_field("language", self._language)
            form.add_field("response_format", "json")
            return {"data": form}

        texts = [text async for text in self.request("/audio/transcriptions", body, _read_transcription)]
        return Transcript("".join(texts).strip())


async def _read_transcription(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    answer = await _read_json(response)
    text = answer.get("text", False) if isinstance(answer, dict) else answer
    if text is None:
        return
    if not isinstance(text, str):
        raise ProviderError(f"the transcription was not understood: {str(answer)[:200]}")
    yield text


class _STTStream:
    """Collects an utterance. At a pause the request is sent already; going on makes it void."""

    def __init__(self, stt: OpenAISTT) -> None:
        self._stt = stt
        self._pcm = bytearray()
        self._early: asyncio.Task[Transcript] | None = None

    def push(self, pcm: bytes) -> None:
        if len(self._pcm) < MAX_UTTERANCE_BYTES:
            self._pcm += pcm

    def pause(self) -> None:
        self.resume()
        self._early = asyncio.create_task(self._stt.transcribe(bytes(self._pcm)), name="transcribe")
        # Whoever does not wait for it, because the speaker went on, does not want its failure either.
        self._early.add_done_callback(lambda task: task.cancelled() or task.exception())

    def resume(self) -> None:
        if self._early is not None:
            self._early.cancel()
            self._early = None

    def discard(self) -> None:
        self.resume()
        self._pcm.clear()

    async def finish(self) -> Transcript:
        early, pcm = self._early, bytes(self._pcm)
        self._early = None
        self._pcm.clear()
        if early is not None:
            return await early
        return await self._stt.transcribe(pcm) if pcm else Transcript("")

    async def aclose(self) -> None:
        self.discard()
