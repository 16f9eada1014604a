"""Our language-model provider against a real llama.cpp server: streaming, cancelling, errors, and a conversation on it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from greenroom.agents.conversation import ConversationOptions, TurnState
from greenroom.agents.speech import ChatMessage, ProviderError
from greenroom.cli.doctor import LOCAL_SERVERS
from greenroom.plugins import openai_http
from greenroom.plugins.openai import OpenAILLM
from tests.conftest import until
from tests.unit.scene import Scene

PYTHON = os.environ.get("GREENROOM_LLAMA_PYTHON", "")
APP = Path(__file__).with_name("llama_server.py")
START_SECONDS = 60.0
CAPITAL = [ChatMessage("user", "What is the capital of France? Answer in one short sentence.")]

pytestmark = pytest.mark.skipif(
    not PYTHON,
    reason="GREENROOM_LLAMA_PYTHON names no Python with llama.cpp: scripts/llama_server makes one and prints it",
)


@contextmanager
def running(*options: object) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The base URL and the process of a server that has loaded its model; ended on the way out."""
    command = [PYTHON, str(APP), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        too_late = threading.Timer(START_SECONDS, process.kill)
        too_late.start()
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            too_late.cancel()
            assert address, f"no server: it ended with {process.wait()}"
            yield f"{address}/v1", process
        finally:
            too_late.cancel()
            process.kill()


def usual_port() -> int:
    """llama.cpp's own where it is free; otherwise 0, for any."""
    port = dict(LOCAL_SERVERS)["llama.cpp"]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """With a context of 512 tokens."""
    with running("--context", 512, "--port", usual_port()) as (url, _):
        yield url


@pytest.fixture
async def llm(server: str) -> AsyncIterator[OpenAILLM]:
    one = OpenAILLM(base_url=server, max_tokens=60)
    yield one
    await one.aclose()


@pytest.fixture
async def endless() -> AsyncIterator[tuple[OpenAILLM, str, subprocess.Popen[bytes]]]:
    """A provider, the URL and the process of a server whose answers take minutes."""
    with running("--endless", "--port", 0) as (url, process):
        one = OpenAILLM(base_url=url)
        yield one, url, process
        await one.aclose()


async def busy(url: str) -> bool:
    """Whether the server works on an answer, by its own account."""

    def ask() -> Any:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/slots", timeout=10) as response:
            return json.load(response)

    return any(slot["is_processing"] for slot in await asyncio.to_thread(ask))


async def said(llm: OpenAILLM, messages: list[ChatMessage]) -> str:
    return "".join([delta async for delta in llm.chat(messages)])


async def answers_somebody_else(url: str) -> None:
    """It has one slot: nobody is answered before the answer that was cancelled has ended.

    That is not asked of `/slots`: a server that reads a question looks for its asker after a second without any result.
    """
    other = OpenAILLM(base_url=url, max_tokens=2)
    try:
        assert await asyncio.wait_for(said(other, CAPITAL), 60)
    finally:
        await other.aclose()


async def test_an_answer_comes_in_pieces_and_ends(llm):
    deltas = [delta async for delta in llm.chat(CAPITAL)]
    assert len(deltas) > 2 and "Paris" in "".join(deltas)


async def test_what_was_said_before_reaches_the_model(llm):
    talk = [
        ChatMessage("system", "Answer in one short sentence."),
        ChatMessage("user", "What is the capital of France?"),
        ChatMessage("assistant", "The capital of France is Paris."),
        ChatMessage("user", "And of Germany?"),
    ]
    assert "Berlin" in await said(llm, talk)


async def test_it_is_whatever_model_was_asked_for(server):
    """llama.cpp serves its only model under every name, so that a local server needs no `OPENAI_MODEL`."""
    llm = OpenAILLM("no-such-model", base_url=server, max_tokens=60)
    assert "Paris" in await said(llm, CAPITAL)
    await llm.aclose()


async def test_a_cancelled_answer_ends_on_the_server(endless):
    llm, url, _ = endless
    deltas = llm.chat(CAPITAL)
    await anext(deltas)
    await deltas.aclose()
    await answers_somebody_else(url)


async def test_an_answer_cancelled_before_its_first_word_ends_on_the_server(endless):
    llm, url, _ = endless
    waiting = asyncio.create_task(said(llm, [ChatMessage("user", "seven " * 3_000)]))
    await until(lambda: busy(url), "the server reads the question")
    waiting.cancel()
    await asyncio.wait([waiting])
    await answers_somebody_else(url)


async def test_a_talk_longer_than_the_context_goes_on(llm, caplog):
    filler = [ChatMessage(role, "one two three four five six seven eight " * 4) for role in ("user", "assistant")] * 10
    assert "Paris" in await said(llm, [ChatMessage("system", "Be brief."), *filler, *CAPITAL])
    assert "21 messages are too long" in caplog.text or "22 messages are too long" in caplog.text


async def test_a_question_longer_than_the_context_is_an_error(llm):
    with pytest.raises(ProviderError, match=r"answered 400.*exceeds the available context size"):
        await said(llm, [ChatMessage("user", "seven " * 1_000)])


async def test_a_limit_used_up_is_an_end(server):
    llm = OpenAILLM(base_url=server, max_tokens=2)
    assert await said(llm, CAPITAL)
    await llm.aclose()


async def test_a_server_that_dies_is_an_error_and_so_is_one_that_is_gone(endless, monkeypatch):
    monkeypatch.setattr(openai_http, "BACK_OFF", 0.01)
    llm, url, process = endless
    deltas = llm.chat(CAPITAL)
    await anext(deltas)
    process.kill()
    with pytest.raises(ProviderError, match=f"{url}/chat/completions broke off"):
        async for _ in deltas:
            pass
    with pytest.raises(ProviderError, match=f"{url}/chat/completions: Cannot connect"):
        await said(llm, CAPITAL)


def doctor(**environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    command = [sys.executable, "-c", "from greenroom.cli.entry import main; main()", "doctor"]
    ran = subprocess.run(command, env={**inherited, "COLUMNS": "200", **environment}, capture_output=True, timeout=60)
    return ran.stdout.decode()


def test_doctor_finds_it_on_its_usual_port(server):
    if f":{dict(LOCAL_SERVERS)['llama.cpp']}/" not in server:
        pytest.skip("llama.cpp's usual port is taken")
    assert f"OPENAI_BASE_URL={server} OPENAI_MODEL=smollm2   (llama.cpp is running)" in doctor()


def test_doctor_asks_the_one_in_the_environment(server):
    line = next(line for line in doctor(OPENAI_BASE_URL=server, OPENAI_MODEL="smollm2").splitlines() if server in line)
    assert line.split() == ["ok", "model", "endpoint", server]


async def test_a_conversation_is_answered_aloud_by_it(llm):
    scene = await Scene(llm=llm, options=ConversationOptions(instructions="Answer in one short sentence.")).open()
    scene.stt.texts = [CAPITAL[0].content]
    await scene.say()
    turn = await scene.turn()
    assert turn.state is TurnState.DONE and "Paris" in turn.heard_text
    assert "Paris" in " ".join(scene.tts.spoken)
    scene.type("And of Germany?")
    assert (await scene.turn(2)).state is TurnState.DONE
    await scene.conversation.aclose()
