"""OpenAI-compatible providers against a small server: streaming, closing early, and every way to fail."""

import asyncio
import io
import json
import struct
import wave
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from greenroom.agents.speech import ChatMessage, MissingProvider, ProviderError
from greenroom.plugins.defaults import default_llm, default_stt, default_tts
from greenroom.plugins.openai import OpenAILLM, OpenAISTT, OpenAITTS

HELLO = [ChatMessage("system", "Be brief."), ChatMessage("user", "hello")]


class FakeServer:
    """`answer(request)` handles everything; `requests` keeps (path, headers, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict, object]] = []
        self.answer = None
        self.gone = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.content_type == "application/json" else await request.post()
        self.requests.append((request.path, dict(request.headers), body))
        return await self.answer(request)


@pytest.fixture
async def server(monkeypatch) -> AsyncIterator[FakeServer]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    server = FakeServer()
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


def streaming(*lines: str, then: asyncio.Event | None = None, server: FakeServer | None = None):
    async def answer(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for line in lines:
                await response.write(line.encode() + b"\n\n")
            if then is not None:
                while not then.is_set():
                    await response.write(b": still there\n")
                    await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.CancelledError):
            if server is not None:
                server.gone.set()
            raise
        return response

    return answer


def delta(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]})


async def collect(stream) -> list:
    return [item async for item in stream]


async def test_text_streams_in_deltas(server):
    role = 'data: {"choices":[{"delta":{"role":"assistant"}}]}'
    usage = 'data: {"choices":[],"usage":{}}'
    server.answer = streaming(role, delta("Hel"), ": comment", delta("lo."), usage, "data: [DONE]", delta("ignored"))
    llm = OpenAILLM("tiny", base_url=server.url, api_key="k", temperature=0.5)
    assert await collect(llm.chat(HELLO)) == ["Hel", "lo."]
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer k"
    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "stream": True,
        "temperature": 0.5,
    }
    await llm.aclose()


async def test_closing_early_hangs_up(server):
    server.answer = streaming(delta("one "), then=asyncio.Event(), server=server)
    llm = OpenAILLM(base_url=server.url)
    stream = llm.chat(HELLO)
    async for _ in stream:
        break
    await stream.aclose()
    await asyncio.wait_for(server.gone.wait(), 10)
    await llm.aclose()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (streaming("data: nonsense"), "something else"),
        (streaming('data: {"error": {"message": "overloaded"}}'), "overloaded"),
        (streaming('data: {"choices": "x"}'), "something else"),
    ],
)
async def test_nonsense_is_a_provider_error(server, answer, words):
    server.answer = answer
    llm = OpenAILLM(base_url=server.url)
    with pytest.raises(ProviderError, match=words):
        await collect(llm.chat(HELLO))
    await llm.aclose()


async def test_refusals_carry_the_servers_words(server):
    async def answer(_request):
        return web.json_response({"error": "invalid key"}, status=401)

    server.answer = answer
    for provider, stream in (
        (llm := OpenAILLM(base_url=server.url), llm.chat(HELLO)),
        (tts := OpenAITTS(base_url=server.url), tts.synthesize("hello")),
    ):
        with pytest.raises(ProviderError, match=r"401.*invalid key"):
            await collect(stream)
        await provider.aclose()


async def test_no_server_is_a_provider_error(unused_tcp_port):
    llm = OpenAILLM(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ProviderError, match=str(unused_tcp_port)):
        await collect(llm.chat(HELLO))
    await llm.aclose()


async def test_speech_arrives_in_whole_samples(server):
    pcm = struct.pack("<5h", 1, 2, 3, 4, 5)

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (pcm[:3], pcm[3:4], pcm[4:]):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    server.answer = answer
    tts = OpenAITTS(base_url=server.url, voice="sage")
    chunks = await collect(tts.synthesize("Hello."))
    assert b"".join(chunks) == pcm and all(len(chunk) % 2 == 0 for chunk in chunks)
    assert server.requests[0][2]["voice"] == "sage" and server.requests[0][2]["response_format"] == "pcm"
    await tts.aclose()


async def test_an_utterance_is_sent_as_wav_already_at_the_pause(server):
    recordings = []

    async def answer(request):
        recordings.append((await request.post())["file"].file.read())
        return web.json_response({"text": " Hello there. "})

    server.answer = answer
    stt = OpenAISTT(base_url=server.url)
    stream = stt.stream()
    stream.push(bytes(3200))
    stream.pause()
    stream.push(bytes(3200))
    assert (await stream.finish()).text == "Hello there."
    assert len(server.requests) == 1
    with wave.open(io.BytesIO(recordings[0])) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getnframes()) == (16_000, 1, 1600)
    stream.push(bytes(3200))
    stream.pause()
    stream.resume()
    stream.push(bytes(3200))
    assert (await stream.finish()).text == "Hello there."
    await stream.aclose()
    await stt.aclose()


def test_without_a_key_it_says_what_to_set(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(MissingProvider, match="set OPENAI_API_KEY"):
        OpenAILLM().load()


def test_the_environment_chooses_the_providers(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert isinstance(default_llm(), OpenAILLM)
    monkeypatch.setenv("GREENROOM_LLM", "rules")
    assert type(default_llm()).__name__ == "RuleBrain"
    monkeypatch.setenv("GREENROOM_STT", "openai")
    monkeypatch.setenv("GREENROOM_TTS", "openai")
    assert isinstance(default_stt(), OpenAISTT) and isinstance(default_tts(), OpenAITTS)
    monkeypatch.setenv("GREENROOM_TTS", "espeak-ng")
    assert type(default_tts()).__name__ == "EspeakNG"
    monkeypatch.setenv("GREENROOM_TTS", "gramophone")
    with pytest.raises(ValueError, match="it may be piper"):
        default_tts()
