"""Any OpenAI-compatible endpoint: chat completions (streamed), transcriptions and speech, over `aiohttp`.

Configuration, each also an argument: `OPENAI_BASE_URL` (default https://api.openai.com/v1), `OPENAI_API_KEY` (may be empty
for local servers), `OPENAI_MODEL`, `OPENAI_STT_MODEL`, `OPENAI_TTS_MODEL`, `OPENAI_TTS_VOICE`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import wave
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from greenroom.agents.speech.protocols import (
    VAD_SAMPLE_RATE,
    ChatMessage,
    MissingProvider,
    PartialCallback,
    ProviderError,
    Transcript,
)

__all__ = ["OpenAILLM", "OpenAISTT", "OpenAITTS"]

DEFAULT_URL = "https://api.openai.com/v1"
CONNECT_TIMEOUT = 5.0
SILENCE_TIMEOUT = 20.0
"""Seconds without a byte after which a request is given up."""
MAX_LINE = 1 << 20
MAX_UTTERANCE_BYTES = 60 * VAD_SAMPLE_RATE * 2


class _Endpoint:
    """What the three have in common: address, key, errors in words. One HTTP session per event loop."""

    def __init__(self, base_url: str | None, api_key: str | None) -> None:
        self._url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        self._key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self) -> None:
        if self._url == DEFAULT_URL and not self._key:
            raise MissingProvider("the OpenAI endpoint", "set OPENAI_API_KEY, or OPENAI_BASE_URL for another server")

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE_TIMEOUT)
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers, read_bufsize=MAX_LINE)
            self._loop = loop
        return self._session

    async def _post(self, path: str, **body: Any) -> aiohttp.ClientResponse:
        """A response with status 200. Raises ProviderError with what the server said otherwise."""
        self.load()
        try:
            response = await self._open().post(f"{self._url}{path}", **body)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ProviderError(f"{self._url}{path}: {str(error) or type(error).__name__}") from error
        if response.status != 200:
            try:
                said = (await response.text())[:500]
            except (TimeoutError, aiohttp.ClientError, UnicodeDecodeError):
                said = "(no readable body)"
            response.release()
            raise ProviderError(f"{self._url}{path} answered {response.status}: {said}")
        return response

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class OpenAILLM(_Endpoint):
    """`LLM` provider: `POST /chat/completions` with `stream: true`."""

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
        body = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": True,
            **{name: value for name, value in self._options.items() if value is not None},
        }
        response = await self._post("/chat/completions", json=body)
        try:
            async for line in response.content:
                if (delta := _delta(line)) is None:
                    return
                if delta:
                    yield delta
        except (TimeoutError, ValueError, aiohttp.ClientError) as error:
            raise ProviderError(f"the model's answer broke off: {str(error) or type(error).__name__}") from error
        finally:
            # Closing the connection is what tells the server to stop generating.
            response.close()


def _delta(line: bytes) -> str | None:
    """The text in one server-sent line; "" when there is none; None at the end. Raises ProviderError."""
    text = line.strip()
    if not text.startswith(b"data:"):
        return ""
    data = text[len(b"data:") :].strip()
    if data == b"[DONE]":
        return None
    try:
        event = json.loads(data)
        if "error" in event:
            raise ProviderError(f"the model failed: {str(event['error'])[:500]}")
        choices = event["choices"]
        return (choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProviderError(f"the model sent something else than chat completions: {data[:200]!r}") from error


class OpenAITTS(_Endpoint):
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
        response = await self._post("/audio/speech", json=body)
        odd = b""
        try:
            async for data in response.content.iter_any():
                data = odd + data
                odd = data[len(data) - len(data) % 2 :]
                if whole := data[: len(data) - len(odd)]:
                    yield whole
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ProviderError(f"the speech broke off: {str(error) or type(error).__name__}") from error
        finally:
            response.close()


class OpenAISTT(_Endpoint):
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
        form = aiohttp.FormData()
        form.add_field("file", file.getvalue(), filename="speech.wav", content_type="audio/wav")
        form.add_field("model", self._model)
        form.add_field("language", self._language)
        form.add_field("response_format", "json")
        response = await self._post("/audio/transcriptions", data=form)
        try:
            answer = await response.json(content_type=None)
            return Transcript(str(answer["text"]).strip())
        except (TimeoutError, ValueError, LookupError, TypeError, aiohttp.ClientError) as error:
            raise ProviderError(f"the transcription was not understood: {error!r}") from error
        finally:
            response.release()


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
