"""Handlers: order, arity, once, removal, async ones, exceptions, iterators."""

import asyncio
import logging

import pytest

from greenroom.rtc import EventEmitter


def test_handlers_run_in_order_with_as_many_arguments_as_they_take() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    seen: list[object] = []
    emitter.on("a", lambda: seen.append("none"))
    emitter.on("a", lambda x: seen.append(x))
    emitter.on("a", lambda *xs: seen.append(xs))
    emitter.emit("a", 1, 2)
    assert seen == ["none", 1, (1, 2)]


def test_decorator_once_and_off() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    seen: list[str] = []

    @emitter.once("a")
    def first() -> None:
        seen.append("once")

    @emitter.on("a")
    def always() -> None:
        seen.append("always")

    emitter.emit("a")
    emitter.emit("a")
    emitter.off("a", always)
    emitter.emit("a")
    assert seen == ["once", "always", "always"]
    with pytest.raises(KeyError):
        emitter.off("b", always)


def test_an_exception_is_logged_and_others_still_run(caplog: pytest.LogCaptureFixture) -> None:
    emitter: EventEmitter[str] = EventEmitter()
    seen: list[int] = []
    emitter.on("a", lambda: 1 / 0)
    emitter.on("a", lambda: seen.append(1))
    with caplog.at_level(logging.ERROR):
        emitter.emit("a")
    assert seen == [1]
    assert "ZeroDivisionError" in caplog.text


def test_type_errors_propagate() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    emitter.on("a", lambda x, y: None)
    with pytest.raises(TypeError):
        emitter.emit("a", 1)


async def test_coroutine_functions_are_handlers_too(caplog: pytest.LogCaptureFixture) -> None:
    emitter: EventEmitter[str] = EventEmitter()
    done = asyncio.Event()

    async def good(value: int) -> None:
        assert value == 7
        done.set()

    failed = asyncio.Event()

    async def bad() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, failed.set)
        raise RuntimeError("boom")

    emitter.on("a", good)
    emitter.on("a", bad)
    emitter.emit("a", 7)
    async with asyncio.timeout(5):
        await done.wait()
        await failed.wait()
    assert "boom" in caplog.text


async def test_iterator() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    seen: list[tuple[object, ...]] = []

    async def collect() -> None:
        async for args in emitter.events("a"):
            seen.append(args)
            if len(seen) == 3:
                return

    task = asyncio.create_task(collect())
    await asyncio.sleep(0)
    for number in range(3):
        emitter.emit("a", number)
    async with asyncio.timeout(5):
        await task
    assert seen == [(0,), (1,), (2,)]
