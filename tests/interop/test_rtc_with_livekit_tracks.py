"""Muting, subscribing and unpublishing between our SDK and the official one, through our server."""

from __future__ import annotations

import asyncio

import pytest

from greenroom import rtc
from greenroom.server.app import RoomServer

from .rtc_pairs import GREENROOM, PAIRS, WAIT, Member, dominant_frequency, feeding, in_room, listen, unsubscribed

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
all_pairs = pytest.mark.parametrize(("first", "second"), PAIRS)


@both_modes
@all_pairs
async def test_mute_and_unmute(room_server: RoomServer, first: str, second: str, dual: bool) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            publication.track.mute()
            participant, remote = await bob.seen("track_muted")
            assert (participant.identity, remote.sid, remote.muted) == ("alice", publication.sid, True)
            publication.track.unmute()
            await bob.seen("track_unmuted")
            assert not remote.muted
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3


@both_modes
@all_pairs
async def test_unpublishing_ends_the_stream(room_server: RoomServer, first: str, second: str, dual: bool) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            track, *_ = await bob.seen("track_subscribed")
            stream = bob.sdk.AudioStream(track)
            await stream.__anext__()
            await alice.me.unpublish_track(publication.sid)
            await bob.seen("track_unsubscribed", lambda t, p, who: p.sid == publication.sid)
            await bob.seen("track_unpublished", lambda p, who: p.sid == publication.sid)
            if bob.sdk is rtc:
                async with asyncio.timeout(WAIT):
                    async for _ in stream:
                        pass
            await stream.aclose()
            again, feed = await alice.publish_tone(880)
            async with feeding(feed):
                track, *_ = await bob.seen("track_subscribed", lambda t, p, who: p.sid == again.sid)
                assert abs(dominant_frequency(await listen(bob, track)) - 880) < 3


@both_modes
@all_pairs
async def test_unsubscribing_and_subscribing(room_server: RoomServer, first: str, second: str, dual: bool) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_subscribed")
            remote = bob.room.remote_participants["alice"].track_publications[publication.sid]
            remote.set_subscribed(False)
            await unsubscribed(room_server, bob)
            assert remote.track is None
            assert not remote.subscribed
            remote.set_subscribed(True)
            await bob.seen("track_subscribed", lambda *_: len(bob.events("track_subscribed")) == 2)
            assert abs(dominant_frequency(await listen(bob, remote.track)) - 440) < 3


@both_modes
async def test_without_auto_subscribe(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        _, task = await alice.publish_tone(440)
        async with feeding(task):
            await bob.seen("track_published")
            await bob.room.disconnect()
            carol = Member(rtc, "carol")
            await carol.connect(room_server.url, dual=dual, auto_subscribe=False)
            try:
                [publication] = carol.room.remote_participants["alice"].track_publications.values()
                assert publication.track is None
                publication.set_subscribed(True)
                track, *_ = await carol.seen("track_subscribed")
                assert abs(dominant_frequency(await listen(carol, track)) - 440) < 3
                assert len(carol.events("track_subscribed")) == 1
            finally:
                await carol.room.disconnect()


@both_modes
async def test_more_tracks_than_the_first_offer_has_sections(room_server: RoomServer, dual: bool) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, bob):
        tasks = []
        try:
            for index in range(6):
                publication, task = await alice.publish_tone(400 + 100 * index)
                tasks.append(task)
                track, *_ = await bob.seen("track_subscribed", lambda t, p, who, sid=publication.sid: p.sid == sid)
                assert abs(dominant_frequency(await listen(bob, track, 0.5)) - (400 + 100 * index)) < 5
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@all_pairs
async def test_a_publisher_learns_of_its_first_subscriber(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, _):
        publication, task = await alice.publish_tone(440)
        async with feeding(task), asyncio.timeout(WAIT):
            await publication.wait_for_subscription()


async def test_following_a_participants_source(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        stream = rtc.AudioStream.from_participant(
            participant=bob.room.remote_participants["alice"], track_source=rtc.TrackSource.SOURCE_MICROPHONE
        )
        for frequency in (440, 880):
            publication, task = await alice.publish_tone(frequency)
            async with feeding(task), asyncio.timeout(WAIT):
                async for event in stream:
                    if max(event.frame.data) > 5000:
                        break
            await alice.me.unpublish_track(publication.sid)
            await bob.seen("track_unpublished", lambda p, who, sid=publication.sid: p.sid == sid)
        await alice.room.disconnect()
        async with asyncio.timeout(WAIT):
            async for _ in stream:
                pass
