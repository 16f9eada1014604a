"""A publisher is told which layers somebody wants (`SubscribedQualityUpdate`)."""

from __future__ import annotations

import pytest
from livekit.protocol import rtc

from greenroom.server.app import RoomServer

from .server_client import Client, client
from .server_fakes import FakeMediaServer


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.server.publishing.PAUSE_DELAY", 0.01)
    monkeypatch.setattr("greenroom.server.publishing.NOBODY_DELAY", 0.01)


async def publish(server: RoomServer, alice: Client) -> str:
    """A camera whose first packet has arrived."""
    info = await alice.publish("cam", "video", "q;h;f")
    (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
    alice.media.event("track", track.number, 0, 4711, 96)
    return info.sid


async def wanted(alice: Client) -> list[bool]:
    update = await alice.expect("subscribed_quality_update")
    assert [quality.quality for quality in update.subscribed_qualities] == [0, 1, 2], "all three are listed"
    assert list(update.subscribed_codecs[0].qualities) == list(update.subscribed_qualities)
    return [quality.enabled for quality in update.subscribed_qualities]


async def all_wanted(alice: Client) -> None:
    """Waits until everything is wanted. That nothing is, before somebody subscribed, may have been told or not."""
    while await wanted(alice) != [True, True, True]:
        pass


async def test_nothing_is_wanted_without_subscribers(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await publish(server, alice)
        assert await wanted(alice) == [False, False, False]
        async with client(server, media, "bob") as bob:
            assert await wanted(alice) == [True, True, True]
            await bob.send(leave=rtc.LeaveRequest())
            assert await wanted(alice) == [False, False, False]


async def test_the_highest_wish_of_all_counts(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        sid = await publish(server, alice)
        async with client(server, media, "bob") as bob, client(server, media, "eve", adaptive=True) as eve:
            await all_wanted(alice)
            await bob.send(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], disabled=True))
            assert await wanted(alice) == [True, False, False], "adaptive stream starts low"
            await eve.send(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], quality=1))
            assert await wanted(alice) == [True, True, False]


async def test_it_is_told_again_after_a_mute(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        sid = await publish(server, alice)
        async with client(server, media, "bob"):
            await all_wanted(alice)
            await alice.send(mute=rtc.MuteTrackRequest(sid=sid, muted=True))
            await alice.settle()
        assert "subscribed_quality_update" not in await alice.settle()
        async with client(server, media, "eve"):
            await alice.send(mute=rtc.MuteTrackRequest(sid=sid, muted=False))
            assert await wanted(alice) == [True, True, True]


async def test_it_waits_for_the_first_packet(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await alice.publish("cam", "video", "q;h;f")
        await bob.settle()
        assert "subscribed_quality_update" not in await alice.settle(), "the client does not know the track yet"
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        media.event("track", track.number, 0, 4711, 96)
        assert await wanted(alice) == [True, True, True]
