"""What "OpenAI-compatible" servers really send: read tolerantly, real errors never overlooked, passing ones tried again."""

import asyncio
import email.utils
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from greenroom.agents.speech import ChatMessage, ProviderError
from greenroom.plugins import openai_http
from greenroom.plugins.openai import OpenAILLM, OpenAISTT, OpenAITTS
from greenroom.plugins.sse import MAX_EVENT, ServerEvent, events

HELLO = [ChatMessage("user", "hello")]
SSE = "text/event-stream"


def chunk(content: object = None, **choice: object) -> dict:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None, **choice}]}


def data(*events_: object, end: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(each, ensure_ascii=False)}{end}" for each in events_).encode()


DONE = b"data: [DONE]\n\n"


class Server:
    """Answers each request with the next of `answers`: a response, or bytes to be streamed in `size` pieces."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.size = 1 << 20
        self.asked_at: list[float] = []
        self.asked: list[bytes] = []
        self.content_type = SSE
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.read())
        self.asked_at.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, web.Response):
            return answer
        response = web.StreamResponse(headers={"Content-Type": self.content_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        body, broken = (answer[:-1], True) if isinstance(answer, tuple) else ((answer,), False)
        for start in range(0, len(body[0]), self.size):
            await response.write(body[0][start : start + self.size])
            await asyncio.sleep(0)
        if broken:
            assert request.transport is not None
            request.transport.close()
        return response


@pytest.fixture
async def server(monkeypatch) -> AsyncIterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(openai_http, "BACK_OFF", 0.01)
    one = Server()
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield one
    await runner.cleanup()


@pytest.fixture
async def llm(server) -> AsyncIterator[OpenAILLM]:
    one = OpenAILLM("m", base_url=server.url)
    yield one
    await one.aclose()


async def said(llm: OpenAILLM) -> str:
    return "".join([delta async for delta in llm.chat(HELLO)])


def refused(status: int, text: str = '{"error": {"message": "busy"}}', **headers: str) -> web.Response:
    return web.Response(status=status, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()})


SHAPES = {
    "role first": (data(chunk(role="assistant"), chunk("")) + data(chunk("Hi")) + DONE, "Hi"),
    "null content": (data(chunk(None), chunk("Hi"), chunk(None)) + DONE, "Hi"),
    "null delta": (data(chunk("Hi"), {"choices": [{"index": 0, "delta": None}]}) + DONE, "Hi"),
    "no delta": (data(chunk("Hi"), {"choices": [{"finish_reason": "stop"}]}) + DONE, "Hi"),
    "null choice": (data({"choices": [None]}, chunk("Hi")) + DONE, "Hi"),
    "null choices": (data({"choices": None}, chunk("Hi")) + DONE, "Hi"),
    "usage only": (data(chunk("Hi"), {"usage": {"total_tokens": 3}}, {"choices": [], "usage": {}}) + DONE, "Hi"),
    "keep-alives": (
        b": ping\n\n" + data({}) + b"\n\ndata:\n\n: x\n" + data(chunk("Hi")) + b"event: ping\n\n" + DONE,
        "Hi",
    ),
    "error is null": (data({"error": None, **chunk("Hi")}, {"error": {}, **chunk("!")}) + DONE, "Hi!"),
    "no end": (data(chunk("Hi"), chunk("!")), "Hi!"),
    "no last line end": (data(chunk("Hi")) + b'data: {"choices": [{"delta": {"content": "!"}}]}', "Hi!"),
    "no space after the colon": (data(chunk("Hi")).replace(b"data: ", b"data:") + DONE, "Hi"),
    "carriage returns": (data(chunk("Hi"), chunk("!"), end="\r\n\r\n") + DONE, "Hi!"),
    "carriage returns only": (data(chunk("Hi"), chunk("!"), end="\r\r") + b"data: [DONE]\r\r", "Hi!"),
    "a mark at the beginning": (b"\xef\xbb\xbf" + data(chunk("Hi")) + DONE, "Hi"),
    "event, id and retry": (b"id: 1\nretry: 5\nevent: message\n" + data(chunk("Hi")) + DONE, "Hi"),
    "one event in two lines": (b'data: {"choices":\ndata: [{"delta": {"content": "Hi"}}]}\n\n' + DONE, "Hi"),
    "other scripts": (data(chunk("今日は"), chunk("é🎉")) + DONE, "今日はé🎉"),
    "parts": (data(chunk([{"type": "text", "text": "Hi"}, {"type": "image"}])) + DONE, "Hi"),
    "tool calls only": (data(chunk(delta={"tool_calls": [{"index": 0}]})) + DONE, ""),
    "reasoning": (data(chunk(delta={"reasoning_content": "Hm", "content": None}), chunk("Hi")) + DONE, "Hi"),
    "another choice": (data({"choices": [{"index": 1, "delta": {"content": "No"}}]}, chunk("Hi")) + DONE, "Hi"),
    "a refusal": (data(chunk(delta={"refusal": "I cannot."})) + DONE, "I cannot."),
    "nothing": (DONE, ""),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_a_stream_is_read(server, llm, shape, size):
    body, text = SHAPES[shape]
    server.answers, server.size = [body], size
    assert await said(llm) == text


async def test_a_server_that_does_not_stream_is_read_too(server, llm):
    server.answers = [web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]})]
    assert await said(llm) == "Hi"


ERRORS = {
    "an error in the middle": (data(chunk("Hi"), {"error": {"message": "overloaded"}}), "overloaded"),
    "an error as a text": (data({"error": "overloaded"}), "overloaded"),
    "an error by its object": (data({"object": "error", "message": "overloaded", "code": 50}), "overloaded"),
    "an error event": (b'event: error\ndata: {"detail": "overloaded"}\n\n', "overloaded"),
    "an error event in words": (b"event: error\ndata: overloaded\n\n", "overloaded"),
    "no JSON": (b"data: overloaded\n\n", "overloaded"),
    "a list": (data([1, 2]), "something else"),
    "choices of another kind": (data({"choices": "x"}), "something else"),
    "content of another kind": (data(chunk(5)), "something else"),
    "a page": (b"<html><body>Welcome</body></html>", "no event"),
    "silence": (b": nothing\n\n", "no event"),
    "all of it thoughts": (
        data(chunk(delta={"reasoning_content": "Hm"}), chunk(None, finish_reason="length")) + DONE,
        "limit of tokens",
    ),
    "withheld": (data(chunk(None, finish_reason="content_filter")) + DONE, "content filter"),
    "a line without an end": (b"data: " + b"x" * (MAX_EVENT + 10), "longer than"),
}


@pytest.mark.parametrize("shape", ERRORS)
async def test_a_real_error_is_an_error(server, llm, shape):
    body, words = ERRORS[shape]
    server.answers = [body]
    with pytest.raises(ProviderError, match=words):
        await said(llm)
    assert len(server.asked_at) == 1


TALK = [
    ChatMessage("system", "Be brief."),
    *(ChatMessage("assistant" if number % 2 else "user", str(number)) for number in range(7)),
]
TOO_LONG = {
    "OpenAI": {"message": "too many", "type": "invalid_request_error", "code": "context_length_exceeded"},
    "llama.cpp": {
        "code": 400,
        "message": "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9412,
        "n_ctx": 8192,
    },
    "vLLM": {"message": "This model's maximum context length is 4096 tokens. However, your request has 5000."},
    "LM Studio": {"message": "Trying to keep the first 5000 tokens when context length of only 4096 tokens."},
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("name", TOO_LONG)
async def test_a_talk_that_outgrows_the_context_goes_on_without_its_older_half(server, llm, name, status):
    error = {"error": TOO_LONG[name]}
    full = data(error) if status == 200 else refused(status, json.dumps(error))
    server.answers = [full, data(chunk("Hi")) + DONE]
    assert [delta async for delta in llm.chat(TALK)] == ["Hi"]
    asked = [[message["content"] for message in json.loads(body)["messages"]] for body in server.asked]
    assert asked == [["Be brief.", *"0123456"], ["Be brief.", *"456"]]


async def test_one_message_that_is_too_long_is_an_error(server, llm):
    server.answers = [refused(400, json.dumps({"error": TOO_LONG["llama.cpp"]})) for _ in range(4)]
    with pytest.raises(ProviderError, match=r"400.*9412 tokens"):
        [delta async for delta in llm.chat(TALK)]
    # Halved until only the question is left: 7, 3, 1.
    assert len(server.asked) == 3


async def test_an_error_with_status_200_is_an_error(server, llm):
    server.answers = [web.json_response({"error": {"message": "no such model"}})]
    with pytest.raises(ProviderError, match="no such model"):
        await said(llm)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_what_may_pass_is_tried_again(server, llm, status):
    server.answers = [refused(status), refused(status), data(chunk("Hi")) + DONE]
    assert await said(llm) == "Hi"
    assert len(server.asked_at) == 3


async def test_after_three_attempts_it_is_given_up_with_the_servers_words(server, llm):
    server.answers = [refused(503) for _ in range(5)]
    with pytest.raises(ProviderError, match=r"503.*busy"):
        await said(llm)
    assert len(server.asked_at) == 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda: refused(400),
        lambda: refused(401),
        lambda: refused(404),
        lambda: refused(429, '{"error": {"code": "insufficient_quota"}}'),
        lambda: refused(503, x_should_retry="false"),
        lambda: refused(429, retry_after="3600"),
        lambda: refused(429, retry_after=email.utils.formatdate(time.time() + 3600, usegmt=True)),
    ],
)
async def test_what_will_not_pass_in_time_is_not_tried_again(server, llm, answer):
    server.answers = [answer()]
    with pytest.raises(ProviderError, match="answered"):
        await said(llm)
    assert len(server.asked_at) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "0.2"}, 0.2),
        ({"retry_after_ms": "200", "retry_after": "7"}, 0.2),
        ({"retry_after": "soon"}, 0.0),
        ({"retry_after": email.utils.formatdate(0, usegmt=True)}, 0.0),
    ],
)
async def test_the_server_is_not_asked_sooner_than_it_wishes(server, llm, headers, seconds):
    server.answers = [refused(429, **headers), data(chunk("Hi")) + DONE]
    assert await said(llm) == "Hi"
    assert server.asked_at[1] - server.asked_at[0] >= seconds


async def test_a_connection_that_breaks_before_the_first_token_is_tried_again(server, llm):
    server.answers = [(b": hold on\n\n", None), data(chunk("Hi")) + DONE]
    assert await said(llm) == "Hi"


async def test_nothing_is_said_twice(server, llm):
    server.answers = [(data(chunk("Hi")), None), data(chunk("Hi")) + DONE]
    text = ""
    with pytest.raises(ProviderError, match="broke off"):
        async for delta in llm.chat(HELLO):
            text += delta
    assert text == "Hi" and len(server.asked_at) == 1


async def test_speech_and_transcriptions_are_tried_again_too(server):
    tts, stt = OpenAITTS(base_url=server.url), OpenAISTT(base_url=server.url)
    server.content_type = "audio/pcm"
    server.answers = [refused(503), b"\1\0\2\0"]
    assert b"".join([pcm async for pcm in tts.synthesize("Hi.")]) == b"\1\0\2\0"
    server.answers = [refused(429), web.json_response({"text": " hello "})]
    assert (await stt.transcribe(bytes(640))).text == "hello"
    await tts.aclose()
    await stt.aclose()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: web.json_response({"error": {"message": "no such voice"}}), "no such voice"),
        (lambda: web.json_response({"text": 5}), "not understood|no speech"),
        (lambda: web.json_response([]), "not understood|no speech"),
        (lambda: web.Response(text="{", content_type="application/json"), "something else than JSON"),
    ],
)
async def test_what_is_no_speech_and_no_text_is_an_error(server, answer, words):
    tts, stt = OpenAITTS(base_url=server.url), OpenAISTT(base_url=server.url)
    server.answers = [answer()]
    with pytest.raises(ProviderError, match=words):
        [pcm async for pcm in tts.synthesize("Hi.")]
    server.answers = [answer()]
    with pytest.raises(ProviderError, match=words):
        await stt.transcribe(bytes(640))
    await tts.aclose()
    await stt.aclose()


async def test_events_do_not_depend_on_how_the_bytes_arrive():
    body = b"\xef\xbb\xbf: c\r\ndata: a\r\ndata: \xc3\xa9\r\n\r\nevent: x\rdata:b\r\rdata\n\nid: 7\n\ndata: end"
    expected = [ServerEvent("message", b"a\n\xc3\xa9"), ServerEvent("x", b"b"), ServerEvent("message", b"")]
    for size in range(1, len(body) + 1):

        async def pieces(size: int = size):
            for start in range(0, len(body), size):
                yield body[start : start + size]

        assert [event async for event in events(pieces())] == [*expected, ServerEvent("message", b"end")]
