"""Joining scripted servers: old ones, refusing ones, silent ones, odd ones. Every end is a ConnectError that says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from livekit.protocol import models, rtc as proto

from greenroom import rtc
from tests.conftest import until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(routes: dict[str, Handler]) -> AsyncIterator[str]:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(status: int, text: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return handler


def first_message(data: bytes | None, seen: list[Any] | None = None) -> Handler:
    """Upgrade, send `data` (None: nothing, close at once), then collect what comes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if data is None:
            await socket.close()
            return socket
        await socket.send_bytes(data)
        async for message in socket:
            if seen is not None:
                seen.append(proto.SignalRequest.FromString(message.data))
        return socket

    return handler


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def refused(url: str, **options: Any) -> rtc.ConnectError:
    room = rtc.Room()
    with pytest.raises(rtc.ConnectError) as error:
        async with asyncio.timeout(20):
            await room.connect(url, "token", rtc.RoomOptions(**options))
    assert not room.isconnected()
    await room.disconnect()
    return error.value


def join(**fields: Any) -> bytes:
    response = proto.JoinResponse(
        room=models.Room(sid="RM_1", name="r"),
        participant=models.ParticipantInfo(sid="PA_1", identity="me"),
        ping_interval=5,
        ping_timeout=15,
        **fields,
    )
    return proto.SignalResponse(join=response).SerializeToString()


async def test_an_older_server_is_joined_with_two_connections() -> None:
    seen: list[proto.SignalRequest] = []
    async with serving({"/rtc": first_message(join(fast_publish=True, subscriber_primary=True), seen)}) as url:
        room = rtc.Room()
        task = asyncio.create_task(room.connect(url, "token"))
        await until(lambda: "offer" in [request.WhichOneof("message") for request in seen], "an offer")
        assert room._core.session is not None
        assert not room._core.session.single
        offer = next(request.offer for request in seen if request.HasField("offer"))
        assert offer.sdp.count("m=") == 1
        assert "m=application" in offer.sdp
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not room.isconnected()


async def test_single_connections_can_be_demanded() -> None:
    async with serving({"/rtc": first_message(join())}) as url:
        error = await refused(url, single_peer_connection=True)
    assert error.status == 404


async def test_a_refused_token_says_what_the_server_said() -> None:
    no = answering(401, "invalid token: expired")
    async with serving({"/rtc/v1": no, "/rtc/v1/validate": no}) as url:
        error = await refused(url)
    assert error.status == 401
    assert "refused the token (401): invalid token: expired" in error.message


async def test_a_missing_room_is_not_an_old_server() -> None:
    no = answering(404, "requested room does not exist")
    async with serving({"/rtc/v1": no, "/rtc/v1/validate": no}) as url:
        error = await refused(url)
    assert "requested room does not exist" in error.message


async def test_something_else_than_a_room_server() -> None:
    async with serving({"/": answering(200, "hello")}) as url:
        error = await refused(url)
    assert "no LiveKit signalling endpoint" in error.message


async def test_a_leave_instead_of_a_join() -> None:
    leave = proto.LeaveRequest(reason=models.DisconnectReason.ROOM_CLOSED)
    async with serving({"/rtc/v1": first_message(proto.SignalResponse(leave=leave).SerializeToString())}) as url:
        error = await refused(url)
    assert "ROOM_CLOSED" in error.message


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (first_message(None), "closed the connection before joining"),
        (first_message(b"\xff\xff\xff"), "not a signalling message"),
        (first_message(b""), "instead of a join"),
        (answering(503, "full"), "refused the connection (503)"),
    ],
    ids=["closes", "garbage", "empty", "overloaded"],
)
async def test_servers_that_do_not_let_us_in(handler: Handler, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.rtc.session.JOIN_PAUSE", 0.01)
    async with serving({"/rtc/v1": handler}) as url:
        error = await refused(url)
    assert text in error.message


async def test_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.rtc.session.JOIN_PAUSE", 0.01)
    async with serving({"/rtc/v1": silent}) as url:
        error = await refused(url, connect_timeout=0.1)
    assert "did not answer within 0.1 s" in error.message


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.rtc.session.JOIN_PAUSE", 0.01)
    error = await refused("ws://127.0.0.1:9")
    assert "cannot reach ws://127.0.0.1:9" in error.message


async def test_media_that_never_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.rtc.session.MEDIA_TIMEOUT", 0.1)
    async with serving({"/rtc/v1": first_message(join())}) as url:
        error = await refused(url)
    assert "the media connection could not be made" in error.message


async def test_a_session_that_ends_while_connecting() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(join())
        leave = proto.LeaveRequest(reason=models.DisconnectReason.PARTICIPANT_REMOVED)
        await socket.send_bytes(proto.SignalResponse(leave=leave).SerializeToString())
        await socket.receive()
        return socket

    async with serving({"/rtc/v1": handler}) as url:
        error = await refused(url)
    assert "ended the session at once: PARTICIPANT_REMOVED" in error.message


async def test_encryption_is_refused() -> None:
    error = await refused("ws://127.0.0.1:9", encryption=rtc.E2EEOptions())
    assert "end-to-end encryption is not available" in error.message


async def test_garbage_after_joining_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    got = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(join())
        await socket.send_bytes(b"\xff\xff")
        await socket.send_bytes(proto.SignalResponse(refresh_token="new").SerializeToString())
        await socket.receive()
        got.set()
        await socket.receive()
        return socket

    async with serving({"/rtc/v1": handler}) as url:
        room = rtc.Room()
        task = asyncio.create_task(room.connect(url, "old"))
        async with asyncio.timeout(10):
            await got.wait()
        await until(lambda: room._core.token == "new", "the new token")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "cannot be parsed" in caplog.text
