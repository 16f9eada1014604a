"""What becomes of calls when the media core fails: the shard's state is lost, or the shard is gone for good."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import models, rtc
from livekit.protocol.room import CreateRoomRequest
from rich.console import Console

from greenroom.api import LiveKitAPI, TokenVerifier, TwirpError
from greenroom.cli.dev import DevSession
from greenroom.cli.server import EXIT_MEDIA_FAILED
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET, ServerConfig
from greenroom.server.manager import MediaFailed, RoomEvent
from tests.conftest import token, until

from .server_client import Client, client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action


def shard_of(server: RoomServer, media: FakeMediaServer, room: str = "test") -> int:
    return media.shard_of(server.manager.rooms[room].number)


async def expect_end(one: Client) -> rtc.LeaveRequest:
    """The leave message, after which the socket is closed."""
    leave = await one.expect("leave")
    message = await asyncio.wait_for(one.ws.receive(), 5)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    return leave


@contextlib.asynccontextmanager
async def elsewhere(server: RoomServer, media: FakeMediaServer) -> AsyncIterator[Client]:
    """Somebody in a room that another shard than that of the room "test" serves."""
    for name in ("other1", "other2"):
        room = await server.manager.create_room(CreateRoomRequest(name=name))
        if media.shard_of(room.number) != shard_of(server, media):
            async with client(server, media, "carol", room=name) as carol:
                yield carol
            return
    pytest.fail("two rooms in a row are not on both shards")


async def test_a_restarted_shard_makes_everybody_on_it_join_again(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob", dual=True) as bob,
        elsewhere(server, media) as carol,
    ):
        before = set(media.peers)
        media.event("shard_restarted", shard_of(server, media), "panic: oops")
        for one in (alice, bob):
            leave = await expect_end(one)
            assert (leave.reason, leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)
        assert "leave" not in await carol.settle()
        assert len(before - set(media.peers)) == 3, "one connection of alice's, two of bob's"
        assert len(media.peers) == 1


async def test_a_room_outlives_its_shard(server: RoomServer, media: FakeMediaServer) -> None:
    events: list[RoomEvent] = []
    verifier = TokenVerifier(DEV_KEY, DEV_SECRET)
    async with client(server, media, "alice") as alice:
        server.manager.on(events.append)
        room = server.manager.rooms["test"]
        room.set_metadata("agenda")
        permission = models.ParticipantPermission(can_subscribe=True, can_publish_data=True)
        room.participants["alice"].update(name="Alice B", metadata="chair", permission=permission)
        fresh = await alice.expect("refresh_token", lambda jwt: verifier.verify(jwt).name == "Alice B")
        media.event("shard_restarted", shard_of(server, media), "panic: oops")
        await expect_end(alice)
        async with client(server, media, "alice", jwt=fresh) as again:
            assert server.manager.rooms["test"] is room
            assert (again.joined.room.sid, again.joined.room.metadata) == (room.sid, "agenda")
            me = again.joined.participant
            assert (me.identity, me.name, me.metadata) == ("alice", "Alice B", "chair")
            assert (me.permission.can_publish, me.permission.can_publish_data) == (False, True)
            assert me.sid != alice.sid
            assert list(room.participants) == ["alice"]
            kinds = [event.kind for event in events]
            assert kinds == ["participant_left", "participant_joined", "participant_active"], "each once, in order"


async def test_a_lost_session_cannot_be_resumed(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        media.event("shard_restarted", shard_of(server, media), "panic: oops")
        await expect_end(alice)
        async with client(
            server, media, "alice", connected=False, reconnect=True, participant_sid=alice.sid, publisher_offer=None
        ) as again:
            leave = again.seen[0].leave
            assert (leave.reason, leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)


async def test_who_does_not_come_back_leaves(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.participant.RETURN_TIMEOUT", 0.1)
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        room = server.manager.rooms["test"]
        await bob.ws.close()
        await until(lambda: not room.participants["bob"].connected_signal, "the server notices the lost socket")
        media.event("shard_restarted", shard_of(server, media), "panic: oops")
        await expect_end(alice)
        await until(lambda: not room.participants, "both are gone")
        assert media.peers == {}


async def test_one_on_the_way_in_is_told_too(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", connected=False) as alice:
        media.event("shard_restarted", shard_of(server, media), "panic: oops")
        assert (await expect_end(alice)).action == Action.RECONNECT
        await until(lambda: not server.manager.rooms["test"].participants, "the session ended with its socket")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("shard_failed", "media shard 1 has failed for good (why)"), ("shard_stuck", "media shard 1 is stuck (why)")],
)
async def test_a_shard_that_is_gone_ends_all_calls_with_one_line(
    server: RoomServer, media: FakeMediaServer, caplog: pytest.LogCaptureFixture, kind: str, words: str
) -> None:
    events: list[str] = []
    server.manager.on(lambda event: events.append(event.kind))
    async with client(server, media, "alice") as alice, elsewhere(server, media) as carol:
        events.clear()
        media.event(kind, 1, "why")
        media.event("shard_failed", 0, "this too")
        for one in (alice, carol):
            assert (await expect_end(one)).action == Action.RECONNECT, "the process that follows takes them"
        assert await asyncio.wait_for(server.failed(), 5) == server.failure == words
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1 and errors[0].startswith(words) and "supervisor" in errors[0]
        assert (events.count("participant_left"), server.manager.rooms) == (2, {})
        assert "room_finished" in events
        async with aiohttp.ClientSession(server.url) as http:
            async with http.get("/") as response:
                assert response.status == 406
            headers = {"Authorization": f"Bearer {token('dave')}"}
            async with http.get("/rtc/validate", headers=headers) as response:
                assert (response.status, "media core failed" in await response.text()) == (503, True)
        async with LiveKitAPI(server.url, DEV_KEY, DEV_SECRET) as api:
            with pytest.raises(TwirpError) as refused:
                await api.room.create_room(CreateRoomRequest(name="new"))
            assert refused.value.code == "unavailable"


async def test_a_server_used_as_a_context_says_that_its_media_failed(media: FakeMediaServer) -> None:
    with pytest.raises(MediaFailed, match=r"shard 0 is stuck \(no turn\)"):
        async with RoomServer(ServerConfig.dev(port=0), media=media) as server:
            media.event("shard_stuck", 0, "no turn")
            await asyncio.wait_for(server.failed(), 5)


async def test_dropped_messages_are_counted_and_said_once(
    server: RoomServer, media: FakeMediaServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(server, media, "alice") as alice:
        room = server.manager.rooms["test"]
        number = room.participants["alice"].primary.number
        media.event("unread", number, 5)
        media.event("unread", number, 7)
        media.event("unread", 999_999, 1)
        await alice.settle()
        assert room.data.dropped["unread"] == 12
        warnings = [
            record.getMessage() for record in caplog.records if "alice in test sends more" in record.getMessage()
        ]
        assert len(warnings) == 1 and "5 were dropped" in warnings[0]


SERVER = """
import sys, threading
from greenroom._native import MediaServer
from greenroom.server import app

fault, times, stuck_after = sys.argv.pop(1), int(sys.argv.pop(1)), float(sys.argv.pop(1))
def media(config):
    server = MediaServer(bind=config.bind, udp_port=0, shards=2, stuck_after=stuck_after)
    def suffer():
        sys.stdin.readline()
        for _ in range(times):
            server._inject_fault(1, fault, 600.0)
    threading.Thread(target=suffer, daemon=True).start()
    return server

app._native_media = media
from greenroom.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("fault", "times", "stuck_after", "words"),
    [("stall", 1, "1", "media shard 1 is stuck"), ("die", 6, "60", "media shard 1 has failed for good")],
)
async def test_the_process_ends_with_an_exit_code_when_its_media_is_gone(
    fault: str, times: int, stuck_after: str, words: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, fault, str(times), stuck_after, "server", "--dev", "--port", "0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert b"ready" in line, line
        _, said = await asyncio.wait_for(process.communicate(b"now\n"), 60)
        errors = [text for text in said.decode().splitlines() if "ERROR" in text and "can carry no more calls" in text]
        assert process.returncode == EXIT_MEDIA_FAILED, said.decode()
        assert len(errors) == 1 and words in errors[0], said.decode()
    finally:
        if process.returncode is None:
            process.kill()


async def test_the_development_command_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    session = DevSession(Path("examples/01_hello.py"), Console(quiet=True), port=0, udp_port=0, log_level="warning")
    served = asyncio.Event()

    async def started() -> bool:
        served.set()
        return True

    monkeypatch.setattr(session, "_start_worker", started)

    async def supervise(reload: bool) -> int:
        return await asyncio.Future()

    monkeypatch.setattr(session, "_supervise", supervise)
    run = asyncio.create_task(session.run(reload=False, lines=[], once=False))
    try:
        await asyncio.wait_for(served.wait(), 10)
        media = session._server._media
        assert media is not None
        for _ in range(6):
            media._inject_fault(0, "die")
        assert await asyncio.wait_for(run, 30) == 1
    finally:
        run.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
