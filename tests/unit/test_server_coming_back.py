"""Whoever comes back learns what it missed, and what it decided still holds, for others while it was away as well."""

from __future__ import annotations

from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from greenroom.server.participant import Participant
from tests.conftest import until

from .server_client import Client, OfferText, client
from .server_fakes import FakeMediaServer
from .test_server_resume import lose_socket, resume

DISCONNECTED = models.ParticipantInfo.State.DISCONNECTED


def member(server: RoomServer, identity: str) -> Participant:
    return server.manager.rooms["test"].participants[identity]


def receives(server: RoomServer, identity: str) -> set[str]:
    """The track sids that the server sends to somebody."""
    return set(member(server, identity).subscriptions.active)


async def test_who_left_meanwhile_is_told(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob, client(server, media, "alice") as alice:
        await lose_socket(server, alice)
        await bob.send(leave=rtc.LeaveRequest())
        await until(lambda: "bob" not in server.manager.rooms["test"].participants, "bob left")
        async with resume(server, media, alice.sid) as again:
            update = await again.expect("update")
            assert [(p.sid, p.identity, p.state) for p in update.participants] == [(bob.sid, "bob", DISCONNECTED)]


async def test_a_lost_socket_that_the_server_has_not_noticed_loses_nothing(
    server: RoomServer, media: FakeMediaServer
) -> None:
    """What went into the dead socket is told again."""
    async with client(server, media, "bob") as bob, client(server, media, "alice") as alice:
        await alice.settle()
        await bob.send(leave=rtc.LeaveRequest())
        await until(lambda: "bob" not in server.manager.rooms["test"].participants, "bob left")
        assert member(server, "alice").connected_signal
        async with resume(server, media, alice.sid) as again:
            update = await again.expect("update")
            assert [p.identity for p in update.participants] == ["bob"]


async def test_more_departures_than_are_remembered_mean_a_full_reconnect(
    server: RoomServer, media: FakeMediaServer, monkeypatch
) -> None:
    monkeypatch.setattr("greenroom.server.returning.MAX_DEPARTURES", 1)
    async with client(server, media, "alice") as alice:
        await lose_socket(server, alice)
        for identity in ("bob", "carol"):
            async with client(server, media, identity) as one:
                await one.send(leave=rtc.LeaveRequest())
            await until(lambda: len(server.manager.rooms["test"].participants) == 1, "they left")
        async with resume(server, media, alice.sid) as again:
            assert again.seen[0].leave.action == rtc.LeaveRequest.Action.RECONNECT


async def test_a_mute_by_the_api_meanwhile_is_told(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        mic, cam = await alice.publish("mic"), await alice.publish("cam", "video")
        member(server, "alice").mute_track(cam.sid, True)
        await alice.settle()
        await lose_socket(server, alice)
        member(server, "alice").mute_track(mic.sid, True)
        async with resume(server, media, alice.sid) as again:
            assert (await again.expect("mute")) == rtc.MuteTrackRequest(sid=mic.sid, muted=True)
            await again.settle()
            mutes = [m.mute.sid for m in again.seen if m.WhichOneof("message") == "mute"]
            assert mutes == [mic.sid], "what it heard before is not repeated: it may have changed its mind since"


async def test_who_speaks_and_who_stopped_is_told(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "bob") as bob,
        client(server, media, "carol") as carol,
        client(server, media, "alice") as alice,
    ):
        await bob.publish("mic")
        await carol.publish("mic")
        await until(lambda: len(receives(server, "alice")) == 2, "alice is sent both")
        room = server.manager.rooms["test"]
        (b,), (c,) = member(server, "bob").tracks.values(), member(server, "carol").tracks.values()
        room.speakers([(b, 0.5, True)])
        await alice.expect("speakers_changed")
        await lose_socket(server, alice)
        room.speakers([(b, 0.0, False), (c, 0.25, True)])
        async with resume(server, media, alice.sid) as again:
            told = await again.expect("speakers_changed")
            assert {(s.sid, s.active, s.level) for s in told.speakers} == {
                (bob.sid, False, 0.0),
                (carol.sid, True, 0.25),
            }


async def test_a_subscription_by_the_api_meanwhile_is_not_undone(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob, client(server, media, "alice") as alice:
        mic = await bob.publish("mic")
        other = await bob.publish("other")
        off = rtc.UpdateSubscription(track_sids=[mic.sid, other.sid], subscribe=False)
        await alice.send(subscription=off)
        await alice.settle()
        await lose_socket(server, alice)
        member(server, "alice").update_subscriptions([mic.sid], True, by_api=True)
        async with resume(server, media, alice.sid) as again:
            await again.send(sync_state=rtc.SyncState(subscription=off))
            await again.settle()
            assert receives(server, "alice") == {mic.sid}


async def allow_only_bob(alice: Client, **entry: object) -> None:
    permission = rtc.TrackPermission(participant_identity="bob", **(entry or {"all_tracks": True}))  # type: ignore[arg-type]
    await alice.send(
        subscription_permission=rtc.SubscriptionPermission(all_participants=False, track_permissions=[permission])
    )
    await alice.settle()


async def test_a_permission_outlives_a_session_that_broke(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "bob"),
        client(server, media, "carol"),
        client(server, media, "alice") as alice,
    ):
        await allow_only_bob(alice)
        mic = await alice.publish("mic")
        assert (receives(server, "bob"), receives(server, "carol")) == ({mic.sid}, set())
        offer = OfferText()
        offer.publish("audio", "mic")
        async with client(server, media, "alice", offer=offer) as again:
            mic = await again.add_track("mic")
            await again.settle()
            assert receives(server, "bob") == {mic.sid}
            assert receives(server, "carol") == set(), "not for a moment"
            everybody = rtc.SubscriptionPermission(all_participants=True)
            await again.send(subscription_permission=everybody)
            await again.settle()
            assert receives(server, "carol") == {mic.sid}


async def test_a_permission_for_one_track_follows_its_name(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob"), client(server, media, "alice") as alice:
        open_ = await alice.publish("open", name="open")
        await alice.publish("secret", name="secret")
        await allow_only_bob(alice, track_sids=[open_.sid])
        assert receives(server, "bob") == {open_.sid}
        async with client(server, media, "alice") as again:
            await again.publish("secret 2", name="secret")
            open_ = await again.publish("open 2", name="open")
            await again.settle()
            assert receives(server, "bob") == {open_.sid}
            async with client(server, media, "alice") as third:
                await third.publish("secret 3", name="secret")
                open_ = await third.publish("open 3", name="open")
                await third.settle()
                assert receives(server, "bob") == {open_.sid}, "also the second time"


async def test_who_leaves_takes_its_permission_along(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob"):
        async with client(server, media, "alice") as alice:
            await allow_only_bob(alice)
            await alice.send(leave=rtc.LeaveRequest())
            await until(lambda: "alice" not in server.manager.rooms["test"].participants, "alice left")
        async with client(server, media, "carol"), client(server, media, "alice") as alice:
            mic = await alice.publish("mic")
            assert receives(server, "carol") == {mic.sid}


async def test_what_i_switched_off_stays_off_when_its_publisher_comes_back(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        mic = await bob.publish("mic", name="mic")
        await bob.publish("other", name="other")
        await alice.send(subscription=rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=False))
        await alice.settle()
        async with client(server, media, "bob") as again:
            await again.publish("mic 2", name="mic")
            other = await again.publish("other 2", name="other")
            await alice.settle()
            assert receives(server, "alice") == {other.sid}


async def test_a_join_can_say_at_once_what_it_does_not_want(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob:
        mic, other = await bob.publish("mic"), await bob.publish("other")
        off = rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=False)
        async with client(server, media, "alice", sync_state=rtc.SyncState(subscription=off)) as alice:
            assert receives(server, "alice") == {other.sid}
            assert set(alice.answer_message.mid_to_track_id.values()) == {other.sid}, "not for a moment"
