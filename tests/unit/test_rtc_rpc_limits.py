"""Calls that never arrive, never end or are too many: each ends in time, with an error and not in silence."""

import asyncio
from typing import Any

import pytest
from livekit.protocol import models

from greenroom import rtc
from greenroom.rtc import rpc_manager
from tests.conftest import until
from tests.unit.rtc_link import Link

Code = rtc.RpcError.ErrorCode


def request_header(request_id: str, timeout_ms: str = "50") -> models.DataPacket:
    """A request stream that is opened and then left alone."""
    header = models.DataStream.Header(
        stream_id=f"stream {request_id}",
        topic="lk.rpc_request",
        attributes={
            "lk.rpc_request_id": request_id,
            "lk.rpc_request_method": "m",
            "lk.rpc_request_response_timeout_ms": timeout_ms,
            "lk.rpc_request_version": "2",
        },
    )
    header.text_header.SetInParent()
    return models.DataPacket(participant_identity="alice", stream_header=header)


def deliver(link: Link, packet: models.DataPacket) -> None:
    link.rooms["bob"]._core.on_packet(packet, "_reliable")


def errors(link: Link) -> dict[str, models.RpcError]:
    """What bob answered, by request id."""
    responses = [p.rpc_response for p in link.sessions["bob"].sent if p.WhichOneof("value") == "rpc_response"]
    return {response.request_id: response.error for response in responses}


async def call(link: Link, **options: Any) -> str:
    async with asyncio.timeout(10):
        return await link["alice"].perform_rpc(destination_identity="bob", method="m", payload="x", **options)


@pytest.mark.parametrize("timeout_ms", ["50", "0", "-5", "nonsense", "9" * 30])
async def test_a_request_stream_that_never_ends(monkeypatch: pytest.MonkeyPatch, timeout_ms: str) -> None:
    monkeypatch.setattr(rpc_manager, "MAX_REQUEST_TIME", 0.1)
    link = Link(alice=2, bob=2)
    deliver(link, request_header("r", timeout_ms))
    await until(lambda: errors(link), "an error")
    assert errors(link)["r"].code == Code.RESPONSE_TIMEOUT
    manager = link["bob"]._core.rpc
    await until(lambda: not manager._running, "its place is free")
    assert not link.rooms["bob"]._core.streams._open, "and nothing more of it is taken in"


async def test_open_request_streams_do_not_disable_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_manager, "MAX_REQUEST_TIME", 0.2)
    link = Link(alice=2, bob=2)
    link["bob"].register_rpc_method("m", lambda data: "here")
    for number in range(rpc_manager.MAX_RUNNING):
        deliver(link, request_header(f"r{number}", "60000"))
    await until(lambda: len(errors(link)) == rpc_manager.MAX_RUNNING, "each has its error")
    assert await call(link) == "here"


@pytest.mark.parametrize("protocol", [0, 2])
async def test_one_call_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.setattr(rpc_manager, "MAX_RUNNING_OF_ONE", 2)
    link = Link(alice=protocol, bob=2 if protocol else 0, carol=2)
    done = asyncio.Event()

    async def slow(data: rtc.RpcInvocationData) -> str:
        await done.wait()
        return "done"

    link["bob"].register_rpc_method("m", slow)
    running = [asyncio.create_task(call(link)) for _ in range(2)]
    await until(lambda: link["bob"]._core.rpc._running.total() == 2, "two are running")
    with pytest.raises(rtc.RpcError) as error:
        await call(link)
    assert (error.value.code, error.value.data) == (Code.APPLICATION_ERROR, "too many calls are running here")
    others = asyncio.create_task(link["carol"].perform_rpc(destination_identity="bob", method="m", payload=""))
    await until(lambda: link["bob"]._core.rpc._running.total() == 3, "others have places of their own")
    done.set()
    assert await asyncio.gather(*running, others) == ["done"] * 3
    assert await call(link) == "done"


async def test_a_request_that_breaks_is_answered() -> None:
    link = Link(alice=2, bob=2)
    deliver(link, request_header("r", "5000"))
    chunk = models.DataStream.Chunk(stream_id="stream r", chunk_index=7, content=b"x")
    deliver(link, models.DataPacket(participant_identity="alice", stream_chunk=chunk))
    await until(lambda: errors(link), "an error")
    assert errors(link)["r"].code == Code.APPLICATION_ERROR and "lost" in errors(link)["r"].data


async def test_a_response_stream_that_never_ends_is_let_go() -> None:
    link = Link(alice=2, bob=2)

    def answers_for_ever(data: rtc.RpcInvocationData) -> str:
        header = models.DataStream.Header(
            stream_id="endless", topic="lk.rpc_response", attributes={"lk.rpc_request_id": data.request_id}
        )
        header.text_header.SetInParent()
        link.rooms["alice"]._core.streams.handle_header(header, "bob")
        raise asyncio.CancelledError

    async def silent(*_: Any) -> None:
        await asyncio.Event().wait()

    link["bob"].register_rpc_method("m", answers_for_ever)
    link["bob"]._core.rpc._send = silent  # type: ignore[method-assign]

    async def invoke() -> None:
        await link["bob"]._core.rpc._invoke(
            rtc.RpcInvocationData(next(iter(link["alice"]._core.rpc._calls)), "alice", "", 5, "m")
        )

    task = asyncio.create_task(call(link, response_timeout=0.2))
    await until(lambda: link["alice"]._core.rpc._calls, "the call is under way")
    with pytest.raises(rtc.RpcError):
        await invoke()
    assert link.rooms["alice"]._core.streams._open
    with pytest.raises(rtc.RpcError):
        await task
    assert not link.rooms["alice"]._core.streams._open


async def test_a_request_that_cannot_be_sent_in_time() -> None:
    link = Link(alice=2, bob=2)

    async def stuck(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    link.sessions["alice"].send_packet = stuck  # type: ignore[method-assign]
    with pytest.raises(rtc.RpcError) as error:
        await call(link, response_timeout=0.05)
    assert error.value.code == Code.CONNECTION_TIMEOUT
