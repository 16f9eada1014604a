"""Calls: both transports, errors, timeouts, interceptors."""

import asyncio

import pytest
from livekit.protocol import models

from greenroom import rtc
from tests.unit.rtc_link import Link

Code = rtc.RpcError.ErrorCode


async def _call(link: Link, payload: str = "x", method: str = "m", **options: object) -> str:
    async with asyncio.timeout(10):
        return await link["alice"].perform_rpc(
            destination_identity="bob",
            method=method,
            payload=payload,
            **options,  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(("alice", "bob"), [(2, 2), (1, 1), (2, 0), (0, 2), (0, 0)])
async def test_call_and_answer(alice: int, bob: int) -> None:
    link = Link(alice=alice, bob=bob)
    seen: list[rtc.RpcInvocationData] = []

    @link["bob"].register_rpc_method("m")
    async def handler(data: rtc.RpcInvocationData) -> str:
        seen.append(data)
        return data.payload.upper()

    assert await _call(link, "hello", response_timeout=9) == "HELLO"
    assert (seen[0].caller_identity, seen[0].payload, seen[0].response_timeout, seen[0].method) == (
        "alice",
        "hello",
        9.0,
        "m",
    )
    v2 = alice >= 1 and bob >= 1
    # Each side is judged by what the other says of itself.
    assert ("rpc_request" in link.sessions["alice"].kinds()) == (bob == 0)
    assert ("rpc_response" in link.sessions["bob"].kinds()) == (alice == 0)
    assert not v2 or "stream_header" in link.sessions["alice"].kinds()


async def test_sync_handlers_and_none() -> None:
    link = Link(alice=2, bob=2)
    link["bob"].register_rpc_method("m", lambda data: None)
    assert await _call(link) == ""


async def test_large_payloads_need_v2() -> None:
    link = Link(alice=2, bob=2)
    link["bob"].register_rpc_method("m", lambda data: data.payload + data.payload)
    assert await _call(link, "€" * 20_000) == "€" * 40_000
    link = Link(alice=2, bob=0)
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, "x" * 16_000)
    assert error.value.code == Code.REQUEST_PAYLOAD_TOO_LARGE
    link = Link(alice=0, bob=2)
    link["bob"].register_rpc_method("m", lambda data: "x" * 16_000)
    with pytest.raises(rtc.RpcError) as error:
        await _call(link)
    assert error.value.code == Code.RESPONSE_PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("protocol", [0, 2])
async def test_errors_travel_as_packets(protocol: int) -> None:
    link = Link(alice=protocol, bob=protocol)

    def passes(data: rtc.RpcInvocationData) -> str:
        raise rtc.RpcError(101, "no tea", "milk")

    link["bob"].register_rpc_method("own", passes)
    link["bob"].register_rpc_method("bug", lambda data: 1 / 0)
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, method="own")
    assert (error.value.code, error.value.message, error.value.data) == (101, "no tea", "milk")
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, method="bug")
    assert error.value.code == Code.APPLICATION_ERROR
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, method="unknown")
    assert error.value.code == Code.UNSUPPORTED_METHOD
    assert link.sessions["bob"].kinds().count("rpc_response") == 3


async def test_timeouts() -> None:
    link = Link(alice=2, bob=2)
    cancelled = asyncio.Event()

    async def never(data: rtc.RpcInvocationData) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            assert data.cancel_reason == Code.RESPONSE_TIMEOUT
            cancelled.set()
        return ""

    link["bob"].register_rpc_method("m", never)
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, response_timeout=0.05)
    assert error.value.code == Code.RESPONSE_TIMEOUT
    async with asyncio.timeout(5):
        await cancelled.wait()
    link.rooms["bob"]._core.on_packet = lambda packet, label: None  # type: ignore[method-assign]
    with pytest.raises(rtc.RpcError) as error:
        await _call(link, max_round_trip_latency=0.02)
    assert error.value.code == Code.CONNECTION_TIMEOUT


async def test_the_recipient_leaves() -> None:
    link = Link(alice=2, bob=2)
    called = asyncio.Event()

    async def never(data: rtc.RpcInvocationData) -> str:
        called.set()
        await asyncio.Event().wait()
        return ""

    link["bob"].register_rpc_method("m", never)
    task = asyncio.create_task(_call(link))
    async with asyncio.timeout(5):
        await called.wait()
        link.leave("bob")
        with pytest.raises(rtc.RpcError) as error:
            await task
    assert error.value.code == Code.RECIPIENT_DISCONNECTED
    assert link["alice"]._core.rpc._calls == {}


async def test_a_response_of_somebody_else_is_ignored() -> None:
    link = Link(alice=2, bob=2)
    answers: list[str] = []

    def handler(data: rtc.RpcInvocationData) -> str:
        answers.append(data.request_id)
        forged = models.DataStream.Header(
            stream_id="f", topic="lk.rpc_response", attributes={"lk.rpc_request_id": data.request_id}
        )
        forged.text_header.SetInParent()
        forged.inline_content = b"forged"
        link.rooms["alice"]._core.streams.handle_header(forged, "mallory")
        return "true"

    link["bob"].register_rpc_method("m", handler)
    assert await _call(link) == "true"
    assert answers


async def test_interceptors_wrap_in_order() -> None:
    link = Link(alice=2, bob=2)
    log: list[str] = []

    class Tag(rtc.RpcInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def intercept_outgoing(self, call, next):  # type: ignore[no-untyped-def]
            log.append(f"out {self.name}")
            call.payload += self.name
            return await next(call)

        async def intercept_incoming(self, invocation, next):  # type: ignore[no-untyped-def]
            log.append(f"in {self.name}")
            return (await next(invocation) or "") + self.name

    for name in "ab":
        link["alice"].add_rpc_interceptor(Tag(name))
        link["bob"].add_rpc_interceptor(Tag(name))
    link["bob"].register_rpc_method("m", lambda data: data.payload)
    assert await _call(link, "-") == "-abba"
    assert log == ["out a", "out b", "in a", "in b"]


async def test_unsupported_version() -> None:
    link = Link(alice=0, bob=0)
    got: asyncio.Queue[models.DataPacket] = asyncio.Queue()
    link.rooms["alice"]._core.on_packet = lambda packet, label: got.put_nowait(packet)  # type: ignore[method-assign]
    link["bob"]._core.rpc.handle_request(models.RpcRequest(id="1", method="m", version=7), "alice")
    async with asyncio.timeout(5):
        assert (await got.get()).WhichOneof("value") == "rpc_ack"
        assert (await got.get()).rpc_response.error.code == Code.UNSUPPORTED_VERSION


async def test_calls_are_answered_when_the_room_is_joined_again() -> None:
    link = Link(alice=2, bob=2)
    link["bob"].register_rpc_method("m", lambda data: "yes")
    await link["bob"]._core.rpc.close()
    assert await _call(link) == "yes"
