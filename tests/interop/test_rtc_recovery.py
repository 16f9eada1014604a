"""Lost sockets and lost sessions: our SDK comes back, with both modes, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest
from livekit.protocol import models

from greenroom import rtc
from greenroom.server.app import RoomServer

from .rtc_pairs import GREENROOM, OFFICIAL, Member, dominant_frequency, feeding, in_room, listen, lose_socket

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])


@both_modes
async def test_a_lost_socket_is_resumed_and_media_goes_on(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            sid = alice.me.sid
            lose_socket(alice)
            await alice.seen("reconnecting")
            await alice.seen("reconnected")
            assert alice.room.connection_state == rtc.ConnectionState.CONN_CONNECTED
            assert (alice.me.sid, publication.sid) == (sid, next(iter(alice.me.track_publications)))
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            assert bob.events("track_unsubscribed") == []
            assert bob.events("participant_disconnected") == []


@both_modes
async def test_a_lost_subscriber_socket_is_resumed(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            lose_socket(bob)
            await bob.seen("reconnected")
            assert bob.events("track_unsubscribed") == []
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            again, feed = await alice.publish_tone(880)
            async with feeding(feed):
                track, *_ = await bob.seen("track_subscribed", lambda t, p, who: p.sid == again.sid)
                assert abs(dominant_frequency(await listen(bob, track)) - 880) < 3


async def test_changes_while_the_socket_is_down_are_made_up_for(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        lose_socket(bob)
        await alice.me.set_attributes({"while": "away"})
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("reconnected")
            await bob.seen("participant_attributes_changed", lambda changed, p: changed == {"while": "away"})
            track, *_ = await bob.seen("track_subscribed")
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3


async def test_reliable_messages_across_a_resume_come_once_and_in_order(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        for number in range(60):
            await alice.me.publish_data(str(number))
            if number in (20, 40):
                lose_socket(alice if number == 20 else bob)
        await bob.seen("data_received", lambda p: p.data == b"59")
        assert [int(p.data) for (p,) in bob.events("data_received")] == list(range(60))


@both_modes
async def test_a_full_reconnect_publishes_again(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_subscribed")
            before = publication.sid
            await alice.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            republished, previous = await alice.seen("local_track_republished")
            assert republished is publication
            assert (previous, publication.sid != before) == (before, True)
            track, *_ = await bob.seen("track_subscribed", lambda t, p, who: p.sid == publication.sid)
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3


async def test_reconnected_fires_when_the_tracks_are_published_again(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, OFFICIAL) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_subscribed")
            before, at_reconnected = publication.sid, []
            alice.room.on("reconnected", lambda: at_reconnected.append(publication.sid))
            await alice.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            await alice.seen("reconnected")
            assert at_reconnected == [publication.sid]
            assert publication.sid != before
            assert alice.me.track_publications[publication.sid] is publication


@both_modes
async def test_a_full_reconnect_subscribes_again(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_subscribed")
            await bob.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            await bob.seen("reconnected")
            await bob.seen("track_subscribed", lambda *_: len(bob.events("track_subscribed")) == 2)
            track = bob.room.remote_participants["alice"].track_publications[publication.sid].track
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            await alice.seen("participant_connected", lambda *_: len(alice.events("participant_connected")) == 2)


async def test_a_session_that_the_server_forgot_is_joined_anew(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, OFFICIAL) as (alice, bob):
        session = alice.room._core.session
        session.participant_sid = "PA_unknown"
        lose_socket(alice)
        await alice.seen("reconnected")
        await alice.me.publish_data("back again")
        await bob.seen("data_received", lambda p: p.data == b"back again")


async def test_the_server_removes_a_participant(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, OFFICIAL) as (alice, bob):
        room = room_server.manager.get_room("test")
        assert room is not None
        assert room.remove_participant("alice", models.DisconnectReason.PARTICIPANT_REMOVED)
        (reason,) = await alice.seen("disconnected")
        assert reason == rtc.DisconnectReason.PARTICIPANT_REMOVED
        assert not alice.room.isconnected()
        await bob.seen("participant_disconnected", lambda p: p.identity == "alice")


async def test_the_same_identity_joins_twice(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, _):
        other = Member(rtc, "alice")
        await other.connect(room_server.url)
        try:
            (reason,) = await alice.seen("disconnected")
            assert reason == rtc.DisconnectReason.DUPLICATE_IDENTITY
            await other.me.publish_data("still here")
        finally:
            await other.room.disconnect()


async def test_a_room_can_be_left_and_joined_again(room_server: RoomServer) -> None:
    member = Member(rtc, "alice")
    for _ in range(3):
        await member.connect(room_server.url)
        assert (await member.room.sid).startswith("RM_")
        await member.room.disconnect()
        await member.room.disconnect()
    assert [reason for (reason,) in member.events("disconnected")] == [1, 1, 1]


async def test_a_server_that_goes_away_for_good(room_server: RoomServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.rtc.recovery.DELAYS", (0.0, 0.05, 0.05))
    monkeypatch.setattr("greenroom.rtc.recovery.JITTER_FROM", 9)
    member = Member(rtc, "alice")
    await member.connect(room_server.url)
    stopping = asyncio.create_task(room_server.stop())
    await member.seen("disconnected", seconds=30)
    assert not member.room.isconnected()
    await stopping


@contextlib.asynccontextmanager
async def server_process(port: int, udp_port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "server", "--dev"),
        *("--port", str(port), "--udp-port", str(udp_port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert b"ready" in await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_server_that_crashes_and_comes_back() -> None:
    port, udp_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    url = f"http://127.0.0.1:{port}"
    alice, bob = Member(rtc, "alice"), Member(rtc, "bob")
    async with server_process(port, udp_port) as process:
        await alice.connect(url)
        await bob.connect(url)
        publication, task = await alice.publish_tone(440, seconds=120)
        await bob.seen("track_subscribed")
        before = publication.sid
        process.kill()
        await process.wait()
    async with feeding(task), server_process(port, udp_port):
        await alice.seen("local_track_republished", seconds=40)
        await bob.seen("reconnected", seconds=40)
        assert publication.sid != before
        track, *_ = await bob.seen("track_subscribed", lambda t, p, who: p.sid == publication.sid, seconds=40)
        assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
        await bob.me.publish_data("made it")
        await alice.seen("data_received", lambda p: p.data == b"made it")
        await alice.room.disconnect()
        await bob.room.disconnect()
