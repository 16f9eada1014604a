"""What a client may ask for after it joined."""

from __future__ import annotations

import aiohttp
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from livekit.protocol import models, rtc

from greenroom.api import TokenVerifier
from greenroom.server.app import RoomServer

from .server_client import Client, OfferText, client
from .server_fakes import FakeMediaServer

State = models.ParticipantInfo.State
Reason = rtc.RequestResponse.Reason


def about(sid: str, state: int | None = None):
    """Condition: an update that holds this participant (in this state)."""
    return lambda update: any(p.sid == sid and (state is None or p.state == state) for p in update.participants)


async def test_update_introduces_a_participant_at_once(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", connected=False) as bob:
        update = await alice.expect("update", about(bob.sid))
        assert update.participants[0].state == State.JOINED


async def test_update_that_introduces_a_participant_precedes_its_media(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await bob.publish("mic")
        await alice.expect("media_sections_requirement")
        kinds = [response.WhichOneof("message") for response in alice.seen]
        introduced = next(i for i, r in enumerate(alice.seen) if any(p.sid == bob.sid for p in r.update.participants))
        assert introduced < kinds.index("media_sections_requirement")


async def test_versions_grow_with_every_update(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await bob.publish("mic")
        await bob.send(leave=rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED))
        await alice.expect("update", about(bob.sid, State.DISCONNECTED))
        versions = [p.version for r in alice.seen for p in r.update.participants if p.sid == bob.sid]
        assert versions == sorted(set(versions)) and len(versions) >= 4


async def test_ping_and_ping_req(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(ping=7)
        assert await alice.expect("pong") > 1_600_000_000_000
        await alice.send(ping_req=rtc.Ping(timestamp=7))
        pong = await alice.expect("pong_resp")
        assert pong.last_ping_timestamp == 7 and pong.timestamp > 1_600_000_000_000


async def test_track_sids_have_letters_for_type_and_source(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        source = models.TrackSource
        for cid, kind, of, prefix in (
            ("a", "audio", source.MICROPHONE, "TR_AM"),
            ("b", "video", source.CAMERA, "TR_VC"),
            ("c", "video", source.SCREEN_SHARE, "TR_VS"),
            ("d", "audio", source.SCREEN_SHARE_AUDIO, "TR_As"),
        ):
            assert (await alice.add_track(cid, kind, source=of)).sid.startswith(prefix)


async def test_source_that_is_not_granted_is_refused(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", grants={"can_publish_sources": ["camera"]}) as alice:
        await alice.send(add_track=rtc.AddTrackRequest(cid="mic", source=models.TrackSource.MICROPHONE))
        response = await alice.expect("request_response")
        assert response.reason == Reason.NOT_ALLOWED and response.add_track.cid == "mic"
        assert (await alice.add_track("cam", "video")).sid


async def test_more_than_20_pending_tracks_are_refused(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        for index in range(20):
            await alice.add_track(f"mic{index}")
        await alice.send(add_track=rtc.AddTrackRequest(cid="one more"))
        assert (await alice.expect("request_response")).reason == Reason.LIMIT_EXCEEDED


async def test_mute_is_broadcast_and_reaches_the_core(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        info = await alice.publish("mic")
        await alice.send(mute=rtc.MuteTrackRequest(sid=info.sid, muted=True))
        await bob.expect("update", lambda u: u.participants[0].tracks and u.participants[0].tracks[0].muted)
        assert list(media.muted.values()) == [True]
        await alice.send(mute=rtc.MuteTrackRequest(sid=info.sid, muted=False))
        await bob.expect("update", lambda u: u.participants[0].tracks and not u.participants[0].tracks[0].muted)


async def test_pending_track_can_be_muted(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.add_track("mic")
        await alice.send(mute=rtc.MuteTrackRequest(sid=info.sid, muted=True))
        alice.offer.publish("audio", "mic")
        await alice.negotiate()
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        assert track.info.muted and media.muted[track.number]


async def test_metadata_name_and_attributes_are_acknowledged_and_broadcast(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        change = rtc.UpdateParticipantMetadata(
            metadata="m", name="Alice", attributes={"k": "v", "l": "w"}, request_id=5
        )
        await alice.send(update_metadata=change)
        response = await alice.expect("request_response")
        assert (response.request_id, response.reason) == (5, Reason.OK)
        update = await bob.expect("update", lambda u: u.participants[0].metadata == "m")
        assert update.participants[0].name == "Alice" and dict(update.participants[0].attributes) == {
            "k": "v",
            "l": "w",
        }
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(attributes={"k": ""}, request_id=6))
        update = await bob.expect("update", lambda u: "k" not in u.participants[0].attributes)
        assert update.participants[0].metadata == "m" and dict(update.participants[0].attributes) == {"l": "w"}


async def test_metadata_without_permission_is_refused(server: RoomServer, media: FakeMediaServer) -> None:
    from greenroom.api import AccessToken, VideoGrants

    jwt = (
        AccessToken("devkey", "secret")
        .with_identity("a")
        .with_grants(VideoGrants(room_join=True, room="test"))
        .to_jwt()
    )
    async with client(server, media, "a", jwt=jwt) as alice:
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(metadata="m", request_id=5))
        response = await alice.expect("request_response")
        assert (response.request_id, response.reason) == (5, Reason.NOT_ALLOWED)


async def test_metadata_beyond_the_limit_is_refused(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(attributes={"k": "x" * 70_000}, request_id=3))
        assert (await alice.expect("request_response")).reason == Reason.LIMIT_EXCEEDED


async def test_refreshed_token_carries_the_changed_claims(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(metadata="new", request_id=1))
        claims = TokenVerifier("devkey", "secret").verify(await alice.expect("refresh_token"))
        assert claims.identity == "alice" and claims.metadata == "new" and claims.video.room == "test"


async def test_unpublished_track_disappears(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await alice.publish("mic")
        await bob.expect("update", lambda u: u.participants[0].tracks)
        alice.offer.set_direction("7", "recvonly")
        answer = await alice.negotiate()
        assert answer.media[7].direction == "inactive", "a section that was sent on never becomes a receiving one"
        await bob.expect("update", lambda u: u.participants[0].sid == alice.sid and not u.participants[0].tracks)


async def test_manual_subscription(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", auto_subscribe=False) as bob:
        info = await alice.publish("mic")
        kinds = await bob.settle()
        assert "media_sections_requirement" not in kinds and "subscription_permission_update" not in kinds
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[info.sid], subscribe=True))
        allowed = await bob.expect("subscription_permission_update")
        assert allowed.allowed and allowed.track_sid == info.sid
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert bob.answer_message.mid_to_track_id["0"] == info.sid


async def test_subscription_to_a_track_that_comes_later(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", auto_subscribe=False) as bob:
        info = await alice.add_track("mic")
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[info.sid], subscribe=True))
        await bob.settle()
        alice.offer.publish("audio", "mic")
        await alice.negotiate()
        assert (await bob.expect("subscription_permission_update")).track_sid == info.sid


async def test_unknown_track_is_told_after_a_while(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.subscriptions.NOT_FOUND_AFTER", 0.0)
    async with client(server, media, "bob", auto_subscribe=False) as bob:
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=["TR_nowhere"], subscribe=True))
        response = await bob.expect("subscription_response")
        assert response.track_sid == "TR_nowhere" and response.err == models.SubscriptionError.SE_TRACK_NOTFOUND


async def test_disabled_track_setting_pauses_without_negotiation(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.publish("cam", "video")
        async with client(server, media, "bob") as bob:
            number = server.manager.rooms["test"].participants["bob"].publisher_pc.number
            await bob.send(track_setting=rtc.UpdateTrackSettings(track_sids=[info.sid], disabled=True))
            assert "media_sections_requirement" not in await bob.settle()
            assert [sender.paused for sender in media.senders[number]] == [True]
            await bob.send(track_setting=rtc.UpdateTrackSettings(track_sids=[info.sid], quality=1))
            await bob.settle()
            assert [(sender.paused, sender.max_layer) for sender in media.senders[number]] == [(False, 1)]


async def test_dimensions_choose_the_smallest_layer_that_covers_them(
    server: RoomServer, media: FakeMediaServer
) -> None:
    layers = [
        models.VideoLayer(quality=quality, width=width, height=width // 2)
        for quality, width in ((0, 320), (1, 640), (2, 1280))
    ]
    async with client(server, media, "alice") as alice:
        info = await alice.publish("cam", "video", "q;h;f", layers=layers)
        async with client(server, media, "bob") as bob:
            number = server.manager.rooms["test"].participants["bob"].publisher_pc.number
            for width, expected in ((100, 0), (400, 1), (640, 1), (1000, 2), (4000, 2)):
                settings = rtc.UpdateTrackSettings(track_sids=[info.sid], width=width, height=width // 2)
                await bob.send(track_setting=settings)
                await bob.settle()
                assert media.senders[number][0].max_layer == expected


async def test_permission_can_be_taken_and_given_per_participant(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        info = await alice.publish("mic")
        assert (await bob.expect("subscription_permission_update")).allowed
        await alice.send(subscription_permission=rtc.SubscriptionPermission(all_participants=False))
        refused = await bob.expect("subscription_permission_update")
        assert not refused.allowed and refused.track_sid == info.sid
        allow = rtc.TrackPermission(participant_identity="bob", track_sids=[info.sid])
        await alice.send(subscription_permission=rtc.SubscriptionPermission(track_permissions=[allow]))
        assert (await bob.expect("subscription_permission_update")).allowed


async def test_features_and_dimensions_can_change(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        mic = await alice.publish("mic")
        cam = await alice.publish("cam", "video")
        feature = models.AudioTrackFeature.TF_ECHO_CANCELLATION
        await alice.send(update_audio_track=rtc.UpdateLocalAudioTrack(track_sid=mic.sid, features=[feature]))
        await alice.send(update_video_track=rtc.UpdateLocalVideoTrack(track_sid=cam.sid, width=9, height=8))
        update = await alice.expect("update", lambda u: any(t.width == 9 for t in u.participants[0].tracks))
        assert list(update.participants[0].tracks[0].audio_features) == [feature]


async def test_speakers_are_told_to_themselves_and_to_their_listeners(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob") as bob,
        client(server, media, "eve", auto_subscribe=False) as eve,
    ):
        await alice.publish("mic")
        await bob.expect("media_sections_requirement")
        room = server.manager.rooms["test"]
        (track,) = room.participants["alice"].tracks.values()
        media.event("speakers", room.number, [(track.number, 0.5, True)])
        for one in (alice, bob):
            (speaker,) = (await one.expect("speakers_changed")).speakers
            assert (speaker.sid, speaker.level, speaker.active) == (alice.sid, 0.5, True)
        assert "speakers_changed" not in await eve.settle()


async def test_first_packet_of_a_layer_names_its_ssrc(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        layers = [models.VideoLayer(quality=quality) for quality in range(3)]
        await alice.publish("cam", "video", "q;h;f", layers=layers)
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        media.event("track", track.number, 1, 4711, 103)
        update = await alice.expect("update", lambda u: u.participants[0].tracks[0].layers[1].ssrc)
        info = update.participants[0].tracks[0]
        assert info.layers[1].ssrc == 4711 and info.layers[1].rid == "h" and info.mime_type == "video/H264"


async def test_leave_removes_at_once(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await bob.send(leave=rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED))
        leave = await bob.expect("leave")
        assert leave.reason == models.DisconnectReason.CLIENT_INITIATED
        assert (await bob.ws.receive()).type == aiohttp.WSMsgType.CLOSE and bob.ws.close_code == 1000
        update = await alice.expect("update", about(bob.sid, State.DISCONNECTED))
        assert update.participants[0].disconnect_reason == models.DisconnectReason.CLIENT_INITIATED
        assert list(server.manager.rooms["test"].participants) == ["alice"]


async def test_second_session_of_an_identity_ends_the_first(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as first, client(server, media, "alice") as second:
        leave = await first.expect("leave")
        assert leave.reason == models.DisconnectReason.DUPLICATE_IDENTITY
        assert leave.action == rtc.LeaveRequest.Action.DISCONNECT
        assert second.sid != first.sid
        await second.settle()
        assert server.manager.rooms["test"].participants["alice"].sid == second.sid


async def test_json_clients_get_json(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        request = rtc.SignalRequest(ping_req=rtc.Ping(timestamp=3))
        await alice.ws.send_str(MessageToJson(request))
        message = await alice.ws.receive(timeout=5)
        assert message.type == aiohttp.WSMsgType.TEXT
        assert Parse(message.data, rtc.SignalResponse()).pong_resp.last_ping_timestamp == 3


async def test_hidden_participants_are_not_shown(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "ghost", grants={"hidden": True}) as ghost,
    ):
        await ghost.publish("mic")
        await alice.settle()
        assert not any(p.identity == "ghost" for r in alice.seen for p in r.update.participants)
        async with client(server, media, "bob") as bob:
            assert [p.identity for p in bob.joined.other_participants] == ["alice"]


async def simulate(one: Client, **scenario: object) -> None:
    await one.send(simulate=rtc.SimulateScenario(**scenario))


async def test_simulated_full_reconnect(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await simulate(alice, leave_request_full_reconnect=True)
        assert (await alice.expect("leave")).action == rtc.LeaveRequest.Action.RECONNECT


async def test_simulated_server_leave(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await simulate(alice, server_leave=True)
        assert (await alice.expect("leave")).action == rtc.LeaveRequest.Action.DISCONNECT


async def test_simulated_speaker(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await simulate(alice, speaker_update=0)
        assert (await alice.expect("speakers_changed")).speakers[0].active
        assert not (await alice.expect("speakers_changed")).speakers[0].active


@pytest.mark.parametrize("scenario", ["disconnect_signal_on_resume", "migration", "node_failure"])
async def test_simulated_loss_of_the_socket(server: RoomServer, media: FakeMediaServer, scenario: str) -> None:
    async with client(server, media, "alice") as alice:
        await simulate(alice, **{scenario: True})
        assert (await alice.ws.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        alive = "alice" in server.manager.rooms["test"].participants
        assert alive == (scenario != "node_failure")


async def test_large_rooms_collect_updates_but_never_send_strangers_media(
    server: RoomServer, media: FakeMediaServer
) -> None:
    import dataclasses

    server.manager.settings = dataclasses.replace(server.manager.settings, max_subscribers_uncoalesced=1)
    async with client(server, media, "alice", offer=OfferText()) as alice, client(server, media, "bob") as bob:
        await bob.publish("mic")
        await alice.expect("media_sections_requirement")
        assert any(p.sid == bob.sid and p.tracks for r in alice.seen for p in r.update.participants)
