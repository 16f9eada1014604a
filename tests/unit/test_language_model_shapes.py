"""What `llm=` may be, and what is said to who gives something else."""

import asyncio
import functools

import pytest

from greenroom.agents.conversation import Conversation, TurnState
from greenroom.agents.speech import ProviderError
from greenroom.agents.speech.adapters import text_source
from tests.unit.speech_fakes import FakeLLM, FakeRoom, FakeSTT, FakeTTS, FakeVAD

SAID = "You said hello."


async def generator(messages):
    yield "You said "
    yield f"{messages[-1].content}."


async def whole(messages):
    await asyncio.sleep(0)
    return f"You said {messages[-1].content}."


def plain(messages):
    return f"You said {messages[-1].content}."


async def gives_generator(messages):
    return generator(messages)


class Pieces:
    """An async iterator that is no generator: there is nothing to close."""

    def __init__(self, messages):
        self.left = ["You said ", None, "", f"{messages[-1].content}."]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


class Callable:
    async def __call__(self, messages):
        return plain(messages)


def with_chat(chat):
    class Model:
        pass

    model = Model()
    model.chat = chat
    return model


SHAPES = [generator, whole, plain, gives_generator, lambda messages: plain(messages), functools.partial(whole)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrap", [lambda shape: shape, with_chat])
async def test_a_function_or_an_object_with_chat_streaming_or_whole(scene, shape, wrap):
    scene.llm = wrap(shape)
    await scene.open()
    scene.type("hello")
    turn = await scene.turn()
    assert (turn.state, turn.heard_text) == (TurnState.DONE, SAID)


@pytest.mark.parametrize("llm", [with_chat(Pieces), Callable(), FakeLLM(SAID)])
async def test_other_iterators_and_callables(scene, llm):
    scene.llm = llm
    await scene.open()
    scene.type("hello")
    assert (await scene.turn()).heard_text == SAID


def plain_generator(messages):
    yield "You said hello."


async def no_argument():
    yield "You said hello."


async def two_arguments(messages, tools):
    yield "You said hello."


class NoChat:
    pass


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ("a model name", "a str without a method `chat`"),
        (NoChat(), "a NoChat without a method `chat`"),
        (FakeLLM, "the class FakeLLM, not an instance"),
        (with_chat("nothing to call"), "`chat`"),
        (plain_generator, "plain_generator is a plain generator"),
        (with_chat(plain_generator), "plain_generator is a plain generator"),
        (no_argument, "no_argument cannot be called with the messages"),
        (two_arguments, "two_arguments cannot be called with the messages"),
    ],
)
def test_anything_else_is_refused_at_once_with_what_is_wanted(llm, words):
    with pytest.raises(TypeError, match=words) as refused:
        Conversation(FakeRoom(), stt=FakeSTT(), vad=FakeVAD(), tts=FakeTTS(), llm=llm)
    assert "async def chat(messages)" in str(refused.value)


@pytest.mark.parametrize(
    ("providers", "words"),
    [
        ({"stt": object()}, "stt is a object without 'stream'"),
        ({"vad": "silero"}, "vad is a str without 'stream'"),
        ({"tts": FakeSTT()}, "tts is a FakeSTT without 'synthesize' and 'sample_rate'"),
        ({"tts": FakeTTS}, "tts is the class FakeTTS"),
    ],
)
def test_so_are_other_providers_that_cannot_be_used(providers, words):
    good = {"stt": FakeSTT(), "vad": FakeVAD(), "tts": FakeTTS(), "llm": FakeLLM()}
    with pytest.raises(TypeError, match=words):
        Conversation(FakeRoom(), **{**good, **providers})


@pytest.mark.parametrize(
    ("answer", "words"),
    [(5, "gave a int"), (None, "gave a NoneType"), (iter("ab"), "gave a str_"), ([b"x"], "gave a list")],
)
async def test_what_only_shows_when_it_is_asked_is_a_provider_error(answer, words):
    with pytest.raises(ProviderError, match=words):
        [delta async for delta in text_source(lambda messages: answer)([])]


async def test_pieces_of_another_kind_are_a_provider_error():
    async def chat(messages):
        yield b"bytes"

    with pytest.raises(ProviderError, match="yielded a bytes"):
        [delta async for delta in text_source(chat)([])]
