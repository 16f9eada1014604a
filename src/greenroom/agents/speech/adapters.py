"""Providers as programs write them, brought to the one form that the conversation uses."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from greenroom.agents.speech.protocols import ChatMessage, ProviderError

__all__ = ["TextSource", "closing", "require", "text_source"]

TextSource = Callable[[Sequence[ChatMessage]], AsyncIterator[str]]

WANTED = (
    "llm: an object with `async def chat(messages)` that yields text, or such a function itself; one that returns the "
    "whole text as a str will do"
)


def text_source(llm: Any) -> TextSource:
    """A language model as one function from messages to text deltas.

    `llm` may be an object with a method `chat`, or the function itself; an async generator, an `async def` or a plain
    function; and may give an async iterable of str, or one str.

    Raises:
        TypeError: when `llm` is none of these; says what is wanted.
    """
    chat = getattr(llm, "chat", None) or llm
    if inspect.isclass(llm):
        raise TypeError(f"llm is the class {llm.__name__}, not an instance of it; {WANTED}")
    if not callable(chat):
        raise TypeError(f"llm is a {type(llm).__name__} without a method `chat`; {WANTED}")
    name = getattr(chat, "__qualname__", type(chat).__name__)
    if any(map(inspect.isgeneratorfunction, (chat, getattr(chat, "__call__", None)))):  # noqa: B004 - looked into, not tested
        raise TypeError(
            f"{name} is a plain generator, which would hold up the event loop; make it `async def`. {WANTED}"
        )
    try:
        inspect.signature(chat).bind([])
    except TypeError as error:
        raise TypeError(f"{name} cannot be called with the messages ({error}); {WANTED}") from None
    except ValueError:
        # Some callables made in C do not tell their signature.
        return _streaming(chat, name)
    return _streaming(chat, name)


def _streaming(chat: Callable[[Sequence[ChatMessage]], Any], name: str) -> TextSource:
    async def stream(messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        answer = chat(messages)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, str):
            yield answer
            return
        if not hasattr(answer, "__aiter__"):
            raise ProviderError(
                f"{name} gave a {type(answer).__name__} where text, or an async iterator of it, is wanted"
            )
        async with closing(answer) as deltas:
            async for delta in deltas:
                if isinstance(delta, str):
                    yield delta
                elif delta is not None:
                    raise ProviderError(f"{name} yielded a {type(delta).__name__} where text is wanted")

    return stream


@asynccontextmanager
async def closing(stream: Any) -> AsyncIterator[Any]:
    """`contextlib.aclosing` for whatever can be iterated: plain async iterators have nothing to close."""
    try:
        yield stream
    finally:
        if hasattr(stream, "aclose"):
            await stream.aclose()


def require(what: str, provider: Any, *members: str) -> None:
    """TypeError when a provider lacks a member that is going to be used."""
    if inspect.isclass(provider):
        raise TypeError(f"{what} is the class {provider.__name__}, not an instance of it")
    missing = [member for member in members if not hasattr(provider, member)]
    if missing:
        raise TypeError(f"{what} is a {type(provider).__name__} without {' and '.join(map(repr, missing))}")
