"""After a gap, by resume or by full reconnect: our picture is the server's, and what we decided holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.protocol import models, room as service

from greenroom import rtc
from greenroom.api import LiveKitAPI
from greenroom.rtc.recovery import ResumeRefused
from greenroom.rtc.room import EventTypes
from greenroom.server.app import RoomServer
from tests.conftest import until

from .rtc_pairs import GREENROOM, Member, feeding, in_room, lose_socket

both_ways = pytest.mark.parametrize("full", [False, True], ids=["resume", "full"])
both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])


@asynccontextmanager
async def members(
    server: RoomServer, *identities: str, dual: bool = False, **options: Any
) -> AsyncIterator[list[Member]]:
    all_of_them = [Member(rtc, identity) for identity in identities]
    try:
        for member in all_of_them:
            await member.connect(server.url, dual=dual, **options)
        for member in all_of_them:
            others = set(identities) - {member.identity}
            await until(lambda m=member, o=others: m.room.remote_participants.keys() >= o, "they see each other")
        yield all_of_them
    finally:
        for member in all_of_them:
            await member.room.disconnect()


@asynccontextmanager
async def away(member: Member, *, full: bool = False) -> AsyncIterator[None]:
    """Without signalling; then back, by resume or by full reconnect."""
    session = member.room._core.session
    assert session is not None and session.signal is not None
    original, gate = session.open_signal, asyncio.Event()

    async def hold(*args: Any) -> Any:
        await gate.wait()
        session.open_signal = original  # type: ignore[method-assign]
        if full:
            raise ResumeRefused("by the test")
        return await original(*args)

    before = len(member.events("reconnected"))
    session.open_signal = hold  # type: ignore[method-assign]
    lose_socket(member)
    await member.seen("reconnecting", lambda: len(member.events("reconnecting")) > before)
    yield
    gate.set()
    await member.seen("reconnected", lambda: len(member.events("reconnected")) > before)


async def full_reconnect(member: Member) -> None:
    async with away(member, full=True):
        pass


def recorded(member: Member, *events: EventTypes) -> list[str]:
    seen: list[str] = []
    for event in events:
        member.room.on(event, lambda *_, event=event: seen.append(event))
    return seen


def watch_own(member: Member, event: EventTypes) -> list[Any]:
    seen: list[Any] = []
    member.room.on(event, lambda *args: seen.append(args))
    return seen


def picture(room: rtc.Room) -> dict[str, Any]:
    """What this client knows of everybody."""
    people: dict[str, Any] = {}
    for one in [room.local_participant, *room.remote_participants.values()]:
        people[one.identity] = (
            one.sid,
            one.name,
            one.metadata,
            one.attributes,
            one.permissions.SerializeToString(deterministic=True),
            {p.sid: (p.name, p.muted, p.track.muted if p.track else None) for p in one.track_publications.values()},
        )
    return {"metadata": room.metadata, **people}


async def truth(api: LiveKitAPI, me: str, receives: set[str]) -> dict[str, Any]:
    """The same from the server."""
    listed = await api.room.list_participants(service.ListParticipantsRequest(room="test"))
    (room,) = (await api.room.list_rooms(service.ListRoomsRequest(names=["test"]))).rooms
    people: dict[str, Any] = {}
    for one in listed.participants:
        people[one.identity] = (
            one.sid,
            one.name,
            one.metadata,
            dict(one.attributes),
            one.permission.SerializeToString(deterministic=True),
            {
                t.sid: (t.name, t.muted, t.muted if one.identity == me or t.sid in receives else None)
                for t in one.tracks
            },
        )
    return {"metadata": room.metadata, **people}


def received(server: RoomServer, identity: str) -> set[str]:
    return set(server.manager.rooms["test"].participants[identity].subscriptions.active)


async def publish(member: Member, name: str) -> rtc.LocalTrackPublication:
    track = rtc.LocalAudioTrack.create_audio_track(name, rtc.AudioSource(48000, 1))
    return await member.me.publish_track(track)


@both_modes
@both_ways
async def test_everything_that_the_api_changes_meanwhile_reaches_me(
    room_server: RoomServer, api: LiveKitAPI, full: bool, dual: bool
) -> None:
    async with members(room_server, "alice", "bob", "carol", dual=dual) as (alice, bob, carol):
        mine, gone = await publish(alice, "mine"), await publish(carol, "gone")
        muted, off, on = await publish(bob, "muted"), await publish(bob, "off"), await publish(bob, "on")
        await until(lambda: received(room_server, "alice") == {p.sid for p in (gone, muted, off, on)}, "all received")
        await until(lambda: on.sid in alice.room.remote_participants["bob"].track_publications, "alice knows of it")
        alice.room.remote_participants["bob"].track_publications[on.sid].set_subscribed(False)
        await until(lambda: on.sid not in received(room_server, "alice"), "switched off")
        events = {
            name: watch_own(alice, name)  # type: ignore[arg-type]
            for name in (
                "participant_connected participant_disconnected track_published track_unpublished track_subscribed "
                "track_unsubscribed track_muted room_metadata_changed participant_metadata_changed "
                "participant_name_changed participant_attributes_changed participant_permissions_changed"
            ).split()
        }
        async with away(alice, full=full):
            for identity in ("alice", "bob"):
                await api.room.update_participant(
                    service.UpdateParticipantRequest(
                        room="test",
                        identity=identity,
                        name=f"{identity} the new",
                        metadata="new",
                        attributes={"new": "yes"},
                        permission=models.ParticipantPermission(
                            can_subscribe=True, can_publish=True, can_publish_data=False, can_update_metadata=True
                        ),
                    )
                )
            for identity, sid in (("bob", muted.sid), ("alice", mine.sid)):
                await api.room.mute_published_track(
                    service.MuteRoomTrackRequest(room="test", identity=identity, track_sid=sid, muted=True)
                )
            for sid, wanted in ((off.sid, False), (on.sid, True)):
                await api.room.update_subscriptions(
                    service.UpdateSubscriptionsRequest(
                        room="test", identity="alice", track_sids=[sid], subscribe=wanted
                    )
                )
            await api.room.remove_participant(service.RoomParticipantIdentity(room="test", identity="carol"))
            await api.room.update_room_metadata(service.UpdateRoomMetadataRequest(room="test", metadata="new room"))
            dave = Member(rtc, "dave")
            await dave.connect(room_server.url)
            new = await publish(dave, "new")

        async def agree() -> bool:
            return picture(alice.room) == await truth(api, "alice", received(room_server, "alice"))

        try:
            await until(agree, "alice's picture is the server's")
        except BaseException:
            print(picture(alice.room), await truth(api, "alice", received(room_server, "alice")), sep="\n")
            raise
        known = picture(alice.room)
        for identity in ("alice", "bob"):
            assert known[identity][1:4] == (f"{identity} the new", "new", {"new": "yes"})
            assert not alice.room._core.participant(identity).view.permissions.can_publish_data
        (own,) = alice.me.track_publications.values()
        assert own.muted and own.track.muted
        wanted = {muted.sid, new.sid} | (set() if full else {on.sid})
        if full:
            wanted.add(off.sid)  # one's own decisions are what a new session begins with
        assert received(room_server, "alice") == wanted

        assert [p.identity for (p,) in events["participant_disconnected"]] == ["carol"]
        assert [p.identity for (p,) in events["participant_connected"]] == ["dave"]
        assert {p.sid for p, _ in events["track_unpublished"]} == {gone.sid}
        assert {p.sid for p, _ in events["track_published"]} == {new.sid}
        assert {p.name for _, p in events["track_muted"]} == {"muted", "mine"}
        assert events["room_metadata_changed"] == [("", "new room")]
        for name in ("metadata", "name", "permissions"):
            changed = events[f"participant_{name}_changed"]
            assert [args[0].identity for args in changed].count("bob") == 1, name
            assert [args[0].identity for args in changed].count("alice") == 1, name
        assert {p.identity for _, p in events["participant_attributes_changed"]} == {"alice", "bob"}
        await dave.room.disconnect()


@both_ways
async def test_who_comes_back_under_the_same_identity_is_not_taken_for_the_one_before(
    room_server: RoomServer, full: bool
) -> None:
    async with members(room_server, "alice", "bob") as (alice, bob):
        async with away(alice, full=full):
            await bob.room.disconnect()
            again = Member(rtc, "bob")
            await again.connect(room_server.url)
        try:
            await until(lambda: alice.room.remote_participants["bob"].sid == again.me.sid, "alice knows the new bob")
        finally:
            await again.room.disconnect()


async def test_mutes_of_my_own_while_away_hold(room_server: RoomServer) -> None:
    async with members(room_server, "alice", "bob") as (alice, bob):
        muted, unmuted = await publish(alice, "muted"), await publish(alice, "unmuted")
        unmuted.track.mute()
        theirs = bob.room.remote_participants["alice"].track_publications
        await until(lambda: len(theirs) == 2 and theirs[unmuted.sid].muted, "bob knows")
        async with away(alice):
            muted.track.mute()
            unmuted.track.unmute()
        await until(lambda: (theirs[muted.sid].muted, theirs[unmuted.sid].muted) == (True, False), "bob knows")
        assert (muted.track.muted, unmuted.track.muted) == (True, False)


@pytest.mark.parametrize("server_remembers", [True, False])
@pytest.mark.parametrize("by_track", [False, True], ids=["all tracks", "one track"])
async def test_who_was_never_allowed_never_receives_my_track(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch, server_remembers: bool, by_track: bool
) -> None:
    if not server_remembers:
        # Other servers forget it with the session: the SDK says it again in time.
        monkeypatch.setattr("greenroom.server.returning.Wills.take", lambda *_: None)
    async with members(room_server, "alice", "bob", "carol") as (alice, bob, carol):
        alice.me.set_track_subscription_permissions(allow_all_participants=False)
        mine, secret = await publish(alice, "mine"), await publish(alice, "secret")
        allowed = (
            rtc.ParticipantTrackPermission(participant_identity="bob", allowed_track_sids=[mine.sid])
            if by_track
            else rtc.ParticipantTrackPermission(participant_identity="bob", allow_all=True)
        )
        alice.me.set_track_subscription_permissions(allow_all_participants=False, participant_permissions=[allowed])
        expected = 1 if by_track else 2
        await until(lambda: len(bob.events("track_subscribed")) == expected, "bob has what he may")
        for times in (1, 2, 3):
            await full_reconnect(alice)
            await bob.seen("track_subscribed", lambda t, p, who: p.sid == mine.sid)
            await until(lambda: len(received(room_server, "bob")) == expected, "bob receives what he may")
            assert alice.me.track_publications.keys() == {mine.sid, secret.sid}
            count = expected * (times + 1)
            await until(lambda n=count: len(bob.events("track_subscribed")) == n, "bob has what he may, once each")
            assert received(room_server, "carol") == set()
        async with away(bob, full=True):
            pass
        await until(lambda: len(received(room_server, "bob")) == expected, "bob still receives what he may")
        assert carol.events("track_subscribed") == [], "not for a moment"
        alice.me.set_track_subscription_permissions(allow_all_participants=True)
        await until(lambda: len(received(room_server, "carol")) == 2, "now carol may")


@both_modes
@both_ways
@pytest.mark.parametrize("auto", [True, False], ids=["auto", "by hand"])
async def test_tracks_that_i_switched_stay_switched(
    room_server: RoomServer, full: bool, auto: bool, dual: bool
) -> None:
    async with members(room_server, "alice") as (alice,):
        switched, other = await publish(alice, "switched"), await publish(alice, "other")
        async with members(room_server, "bob", dual=dual, auto_subscribe=auto) as (bob,):
            tracks = bob.room.remote_participants["alice"].track_publications
            default = {switched.sid, other.sid} if auto else set()
            await until(lambda: received(room_server, "bob") == default, "as by default")
            await until(lambda: {p.sid for p in tracks.values() if p.track} == default, "and bob knows")
            publication = tracks[switched.sid]
            publication.set_subscribed(not auto)
            expected = {other.sid} if auto else {switched.sid}
            await until(lambda: received(room_server, "bob") == expected, "the choice is applied")
            async with away(bob, full=full):
                pass
            await until(lambda: {p.sid for p in tracks.values() if p.track} == expected, "the choice holds")
            assert received(room_server, "bob") == expected
            assert bob.room.remote_participants["alice"].track_publications[switched.sid] is publication
            if auto:
                heard = [p.sid for _, p, _ in bob.events("track_subscribed")]
                assert heard.count(switched.sid) == 1, "not for a moment"


@pytest.mark.parametrize("server_remembers", [True, False])
async def test_choices_outlive_the_full_reconnect_of_whom_i_listen_to(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch, server_remembers: bool
) -> None:
    if not server_remembers:
        monkeypatch.setattr("greenroom.server.subscriptions.SubscriptionSet._remember", lambda *_: None)
    async with members(room_server, "alice", "bob") as (alice, bob):
        off, paused = await publish(alice, "off"), await publish(alice, "paused")
        await until(lambda: len(received(room_server, "bob")) == 2, "bob receives both")
        tracks = bob.room.remote_participants["alice"].track_publications
        tracks[off.sid].set_subscribed(False)
        tracks[paused.sid].set_enabled(False)
        await until(lambda: received(room_server, "bob") == {paused.sid}, "bob's choice")
        await full_reconnect(alice)

        def as_chosen() -> bool:
            active = room_server.manager.rooms["test"].participants["bob"].subscriptions.active
            return set(active) == {paused.sid} and active[paused.sid].settings.disabled

        await bob.seen("track_subscribed", lambda t, p, who: p.sid == paused.sid)
        await until(as_chosen, "bob's choice holds")
        # And whoever leaves and publishes again begins anew.
        await alice.me.unpublish_track(off.sid)
        fresh = await publish(alice, "off")
        await until(lambda: fresh.sid in received(room_server, "bob"), "a new track is a new track")


@both_modes
@pytest.mark.parametrize("who", ["publisher", "subscriber", "both"])
async def test_data_tracks_outlive_a_full_reconnect(room_server: RoomServer, dual: bool, who: str) -> None:
    async with members(room_server, "alice", "bob", dual=dual) as (alice, bob):
        unpublished = watch_own(bob, "data_track_unpublished")
        track = await alice.me.publish_data_track(name="pose")
        (remote,) = await bob.seen("data_track_published")
        stream = remote.subscribe()

        async def arrives(payload: bytes) -> bool:
            track.try_push(rtc.DataTrackFrame(payload))
            try:
                async with asyncio.timeout(0.2):
                    while (await stream.read()).payload != payload:
                        pass
            except TimeoutError:
                return False
            return True

        await until(lambda: arrives(b"before"), "a frame arrives")
        for times in range(2):
            for member in (alice, bob):
                if who in ("both", {"alice": "publisher", "bob": "subscriber"}[member.identity]):
                    await full_reconnect(member)
            await until(lambda times=times: arrives(b"after %d" % times), "a frame arrives again")
        assert track.is_published() and remote.is_published() and remote.info.sid == track.info.sid
        assert unpublished == [] and len(bob.events("data_track_published")) == 1
        await track.unpublish()
        await until(lambda: not remote.is_published(), "it ends")
        assert len(unpublished) == 1


async def test_a_data_track_whose_publisher_does_not_come_back_ends(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.rtc.data_track.RETURN_TIMEOUT", 0.1)
    async with members(room_server, "alice", "bob") as (alice, bob):
        unpublished = watch_own(bob, "data_track_unpublished")
        await alice.me.publish_data_track(name="pose")
        (remote,) = await bob.seen("data_track_published")
        stream = remote.subscribe()
        participant = room_server.manager.rooms["test"].participants["alice"]
        async with away(alice):
            participant.close(models.DisconnectReason.CONNECTION_TIMEOUT, leave=False)
            async with asyncio.timeout(10):
                assert await stream.read() is None
        assert len(unpublished) == 1 and not remote.is_published()


async def test_the_rest_of_what_i_have_outlives_a_full_reconnect(room_server: RoomServer) -> None:
    """The publication object, attributes, RPC methods, stream handlers, and captions with the sid of before."""
    async with members(room_server, "alice", "bob") as (alice, bob):
        publication, task = await alice.publish_tone(440)
        async with feeding(task):
            track, before = publication.track, publication.sid
            alice.me.register_rpc_method("ping", lambda call: f"pong {call.payload}")
            texts: list[str] = []

            async def on_text(reader: rtc.TextStreamReader, identity: str) -> None:
                texts.append(f"{identity}: {await reader.read_all()}")

            alice.room.register_text_stream_handler("notes", on_text)
            captions: list[dict[str, str]] = []
            bob.room.register_text_stream_handler(
                "lk.transcription", lambda reader, _: captions.append(reader.info.attributes or {})
            )
            await alice.me.set_attributes({"mood": "good"})
            await full_reconnect(alice)

            assert publication.sid != before
            assert list(alice.me.track_publications.items()) == [(publication.sid, publication)]
            assert publication.track is track and track.sid == publication.sid
            async with asyncio.timeout(10):
                await publication.wait_for_subscription()
            await until(lambda: bob.room.remote_participants["alice"].attributes == {"mood": "good"}, "attributes")
            answer = await bob.me.perform_rpc(destination_identity="alice", method="ping", payload="1")
            assert answer == "pong 1"
            await bob.me.send_text("hello", topic="notes")
            await until(lambda: texts == ["bob: hello"], "the handler is there")
            await alice.me.send_text("well", topic="lk.transcription", attributes={"lk.transcribed_track_id": before})
            await until(lambda: captions, "a caption")
            assert captions[0]["lk.transcribed_track_id"] == publication.sid
            await alice.me.unpublish_track(before)
            assert alice.me.track_publications == {}


async def test_an_agents_transcriptions_follow_their_track(room_server: RoomServer) -> None:
    async with in_room(room_server, GREENROOM, GREENROOM, agent=True) as (alice, bob):
        publication = await publish(alice, "voice")
        before = publication.sid
        await full_reconnect(alice)
        segment = rtc.TranscriptionSegment(id="s", text="well", start_time=0, end_time=0, language="", final=True)
        await alice.me.publish_transcription(
            rtc.Transcription(participant_identity="alice", track_sid=before, segments=[segment])
        )
        _, _, theirs = await bob.seen("transcription_received")
        assert theirs.sid == publication.sid != before


async def test_a_track_that_the_server_took_away_meanwhile_is_gone(room_server: RoomServer, api: LiveKitAPI) -> None:
    """No message says so in a resume: it ends in a full reconnect."""
    async with members(room_server, "alice", "bob") as (alice, _):
        publication = await publish(alice, "mine")
        gone = watch_own(alice, "local_track_unpublished")
        async with away(alice):
            await api.room.update_participant(
                service.UpdateParticipantRequest(
                    room="test", identity="alice", permission=models.ParticipantPermission(can_subscribe=True)
                )
            )
        assert gone == [(publication,)] and alice.me.track_publications == {}
        assert not alice.me.permissions.can_publish
        with pytest.raises(rtc.PublishTrackError, match="NOT_ALLOWED"):
            await publish(alice, "again")


async def test_what_is_lost_again_while_it_is_published_again_is_not_lost(room_server: RoomServer) -> None:
    async with members(room_server, "alice", "bob") as (alice, _):
        publication = await publish(alice, "mine")
        data = await alice.me.publish_data_track(name="pose")
        original, times = alice.me._core.tracks._publish, []

        async def lose(*args: Any) -> Any:
            times.append(1)
            if len(times) <= 2:
                lose_socket(alice)
            return await original(*args)

        alice.me._core.tracks._publish = lose
        await alice.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
        await alice.seen("reconnected", seconds=30)
        assert len(times) == 3
        assert list(alice.me.track_publications.values()) == [publication] and data.is_published()
        server_side = room_server.manager.rooms["test"].participants["alice"]
        assert set(server_side.tracks) == {publication.sid}
        assert [track.sid for track in server_side.data_tracks.values()] == [data.info.sid]
