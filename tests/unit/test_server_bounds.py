"""How much of everything one participant may have, and what it is told when that is not enough (docs/server.md)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.bounds import MAX_ATTRIBUTES, MAX_LAYERS, MAX_PERMISSIONS, MAX_PUBLICATIONS
from greenroom.server.config import LimitConfig, ServerConfig
from greenroom.server.sdp import SdpError, SessionDescription
from tests.conftest import token, until

from .server_client import Client, OfferText, client, wrap
from .server_fakes import FakeMediaServer

Reason = rtc.RequestResponse.Reason


async def refusal(one: Client, **message: Any) -> int:
    await one.send(**message)
    return (await one.expect("request_response")).reason


# --- descriptions ----------------------------------------------------------------------------------------------------

HEAD = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\n"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("a=rtcp-fb:* nack\r\n" * 33, "more than 32 feedback lines for one format"),
        ("a=rtcp-fb:96 nack\r\n" * 33, "more than 32 feedback lines for one format"),
        ("".join(f"a=ssrc:{n} cname:x\r\n" for n in range(65)), "more than 64 sources"),
        ("".join(f"a=ssrc:1 name{n}:x\r\n" for n in range(17)), "more than 16 attributes of one source"),
        ("a=extmap:256 urn:x\r\n", "out of range"),
        ("a=rtpmap:96 VP8\r\n", "cannot read 'a=rtpmap:96 VP8'"),
    ],
)
def test_a_section_with_too_much_is_refused(lines: str, error: str) -> None:
    with pytest.raises(SdpError, match=error):
        SessionDescription.parse(HEAD + lines)


def test_candidates_are_kept_up_to_a_number() -> None:
    description = SessionDescription.parse(HEAD + "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n" * 1000)
    assert len(description.media[0].candidates) == 64


def test_sections_that_list_the_same_share_it() -> None:
    offer = SessionDescription.parse(str(OfferText(40, 40)))
    assert len({id(section.codecs) for section in offer.media if section.is_rtp}) == 2


# --- joining ---------------------------------------------------------------------------------------------------------


async def refused_join(server: RoomServer, jwt: str = "", query: dict[str, str] | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {jwt or token('alice')}"}
    path = "/rtc/v1/validate" if query and "join_request" in query else "/rtc/validate"
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.get(path, headers=headers, params=query or {}) as response,
    ):
        return response.status, await response.text()


def carrying(**claims: Any) -> str:
    made = AccessToken("devkey", "secret").with_identity("alice")
    made = made.with_grants(VideoGrants(room_join=True, room="test", can_update_own_metadata=True))
    return made.with_metadata(claims.get("metadata", "")).with_attributes(claims.get("attributes", {})).to_jwt()


async def test_what_a_participant_brings_has_the_limits_of_what_it_says_later(media: FakeMediaServer) -> None:
    limit = LimitConfig(max_metadata_size=100, max_attributes_size=4000)
    many = {f"{n:x}": "" for n in range(MAX_ATTRIBUTES + 1)}
    async with RoomServer(ServerConfig.dev(port=0, limit=limit), media=media) as server:
        too_long = (400, "metadata exceeds the limit of 100 bytes")
        assert await refused_join(server, query={"join_request": wrap(rtc.JoinRequest(metadata="m" * 101))}) == too_long
        assert await refused_join(server, carrying(metadata="m" * 101)) == too_long
        attributes = base64.b64encode(json.dumps({"key": "v" * 4000}).encode()).decode()
        too_large = (400, "attributes exceed the limit of 4000 bytes")
        assert await refused_join(server, query={"attributes": attributes}) == too_large
        assert await refused_join(server, carrying(attributes={"key": "v" * 4000})) == too_large
        assert await refused_join(server, carrying(attributes=many)) == (400, f"more than {MAX_ATTRIBUTES} attributes")
        assert (await refused_join(server, carrying(metadata="m" * 100)))[0] == 200
        requests = [rtc.AddTrackRequest(cid=str(n)) for n in range(MAX_PUBLICATIONS + 1)]
        query = {"join_request": wrap(rtc.JoinRequest(add_track_requests=requests))}
        assert await refused_join(server, query=query) == (400, f"more than {MAX_PUBLICATIONS} add_track_requests")


async def test_two_who_want_the_last_place_at_once_do_not_both_get_it(server: RoomServer) -> None:
    server.manager.room_for("test", server.authenticator.verify(token("x"))).max_participants = 1
    async with aiohttp.ClientSession(server.url) as session:
        sockets = await asyncio.gather(
            *(session.ws_connect("/rtc", params={"access_token": token(name)}) for name in ("a", "b", "c")),
            return_exceptions=True,
        )
        firsts = []
        for socket in sockets:
            if isinstance(socket, aiohttp.WSServerHandshakeError):
                assert socket.status == 503
                continue
            assert isinstance(socket, aiohttp.ClientWebSocketResponse)
            firsts.append(rtc.SignalResponse.FromString(await socket.receive_bytes()))
        kinds = [first.WhichOneof("message") for first in firsts]
        assert kinds.count("join") == 1
        left = models.DisconnectReason.JOIN_FAILURE
        assert all(first.leave.reason == left for first in firsts if first.WhichOneof("message") == "leave")
        assert len(server.manager.rooms["test"].participants) == 1


# --- signalling ------------------------------------------------------------------------------------------------------


async def test_json_that_is_too_long_ends_the_connection(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.ws.send_str(json.dumps({"updateMetadata": {"metadata": "m" * 256 * 1024}}))
        async with asyncio.timeout(5):
            while (message := await alice.ws.receive()).type == aiohttp.WSMsgType.BINARY:
                pass
        assert message.type == aiohttp.WSMsgType.CLOSE and message.data == 1009


async def test_a_room_with_much_to_tell_can_be_joined(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(server, media, "alice", jwt=carrying(metadata="m" * 20_000)):
        monkeypatch.setattr("greenroom.server.connection.MAX_QUEUED", 20_000)
        async with client(server, media, "bob") as bob:
            assert bob.joined.other_participants[0].metadata == "m" * 20_000


async def test_too_many_attributes_are_refused(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        attributes = {f"{n:x}": "1" for n in range(MAX_ATTRIBUTES + 1)}
        change = rtc.UpdateParticipantMetadata(attributes=attributes)
        assert await refusal(alice, update_metadata=change) == Reason.LIMIT_EXCEEDED
        assert not server.manager.rooms["test"].participants["alice"].attributes


async def test_a_track_says_only_so_much(server: RoomServer, media: FakeMediaServer) -> None:
    video = {"cid": "cam", "type": models.TrackType.VIDEO}
    layers = [models.VideoLayer(width=n) for n in range(MAX_LAYERS + 1)]
    codecs = [rtc.SimulcastCodec(codec="vp8", cid=str(n)) for n in range(MAX_LAYERS + 1)]
    async with client(server, media, "alice") as alice:
        for request in (
            rtc.AddTrackRequest(**video, layers=layers),
            rtc.AddTrackRequest(**video, simulcast_codecs=codecs),
            rtc.AddTrackRequest(**video, simulcast_codecs=[rtc.SimulcastCodec(codec="vp8", layers=layers)]),
            rtc.AddTrackRequest(**video, name="n" * 17_000),
        ):
            assert await refusal(alice, add_track=request) == Reason.LIMIT_EXCEEDED
        await alice.add_track("cam", "video", layers=layers[:MAX_LAYERS])


async def test_a_participant_publishes_only_so_much(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(server, media, "alice") as alice:
        monkeypatch.setattr("greenroom.server.publishing.MAX_PUBLICATIONS", 2)
        await alice.publish("mic")
        await alice.publish("cam", "video")
        more = rtc.AddTrackRequest(cid="one more", type=models.TrackType.VIDEO)
        assert await refusal(alice, add_track=more) == Reason.LIMIT_EXCEEDED
        monkeypatch.undo()
        monkeypatch.setattr("greenroom.server.publishing.MAX_STATE", 1000)
        more = rtc.AddTrackRequest(cid="one more", type=models.TrackType.VIDEO, name="n" * 900)
        assert await refusal(alice, add_track=more) == Reason.LIMIT_EXCEEDED


async def test_a_data_track_says_only_so_much(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        schema = models.DataTrackSchemaId(name="s" * 3000)
        request = rtc.PublishDataTrackRequest(pub_handle=1, name="d", schema=schema)
        assert await refusal(alice, publish_data_track_request=request) == Reason.LIMIT_EXCEEDED


async def test_permissions_are_counted_and_mean_what_they_say(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        publications = server.manager.rooms["test"].participants["alice"].publications
        subscriber = server.manager.rooms["test"].participants["bob"]

        def entry(**fields: Any) -> rtc.TrackPermission:
            return rtc.TrackPermission(**fields)

        for entries, allowed in (
            ([], []),
            ([entry(participant_sid=bob.sid, track_sids=["TR_1"])], ["TR_1"]),
            ([entry(participant_identity="bob", track_sids=["TR_2"])], ["TR_2"]),
            (
                [
                    entry(participant_sid=bob.sid, track_sids=["TR_1"]),
                    entry(participant_sid=bob.sid, track_sids=["TR_2"]),
                ],
                ["TR_1", "TR_2"],
            ),
            ([entry(participant_identity="bob", all_tracks=True)], ["TR_1", "TR_2"]),
            ([entry(participant_sid="PA_other", all_tracks=True), entry(all_tracks=True)], []),
        ):
            await alice.send(subscription_permission=rtc.SubscriptionPermission(track_permissions=entries))
            await alice.settle()
            assert [sid for sid in ("TR_1", "TR_2") if publications.allows(subscriber, sid)] == allowed
        many = [entry(participant_identity=str(n), all_tracks=True) for n in range(MAX_PERMISSIONS + 1)]
        permission = rtc.SubscriptionPermission(track_permissions=many)
        assert await refusal(alice, subscription_permission=permission) == Reason.LIMIT_EXCEEDED
        assert not publications.allows(subscriber, "TR_1"), "what held before holds"
        await alice.send(subscription_permission=rtc.SubscriptionPermission(all_participants=True))
        await alice.settle()
        assert publications.allows(subscriber, "TR_1")


async def test_features_that_do_not_exist_are_not_told_to_anybody(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.publish("mic")
        features = [models.AudioTrackFeature.TF_STEREO, *range(1000, 9000)]
        await alice.send(update_audio_track=rtc.UpdateLocalAudioTrack(track_sid=info.sid, features=features))
        await alice.settle()
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        assert list(track.info.audio_features) == [models.AudioTrackFeature.TF_STEREO]


# --- wishes and subscriptions ----------------------------------------------------------------------------------------


async def test_wishes_for_tracks_that_do_not_exist_make_room_for_those_that_do(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.subscriptions.MAX_NAMED", 50)
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob", auto_subscribe=False) as bob,
    ):
        info = await alice.publish("mic")
        subscriptions = server.manager.rooms["test"].participants["bob"].subscriptions
        junk = [f"TR_{n}" for n in range(500)]
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=junk, subscribe=True))
        await bob.send(track_setting=rtc.UpdateTrackSettings(track_sids=junk))
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=["T" * 100_000], subscribe=True))
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[info.sid], subscribe=True))
        await bob.expect("media_sections_requirement")
        assert len(subscriptions._wishes) <= 50 and len(subscriptions._settings) <= 50
        assert max(map(len, subscriptions._wishes)) < 100
        await alice.send(leave=rtc.LeaveRequest())
        await until(lambda: info.sid not in subscriptions._wishes, "who is gone is forgotten")


async def test_data_tracks_that_do_not_exist_make_room_too(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.data_tracks.MAX_NAMED", 50)
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await alice.send(publish_data_track_request=rtc.PublishDataTrackRequest(pub_handle=1, name="d"))
        info = (await alice.expect("publish_data_track_response")).info
        for sids in ([f"DTR_{n}" for n in range(500)], ["D" * 100_000], [info.sid]):
            updates = [rtc.UpdateDataSubscription.Update(track_sid=sid, subscribe=True) for sid in sids]
            await bob.send(update_data_subscription=rtc.UpdateDataSubscription(updates=updates))
        await bob.expect("data_track_subscriber_handles", lambda handles: len(handles.sub_handles) == 1)
        wishes = server.manager.rooms["test"].data.tracks._subscribers["bob"].wishes
        assert len(wishes) <= 50 and max(map(len, wishes)) < 100


async def test_more_than_a_participant_may_receive_waits_until_others_end(media: FakeMediaServer) -> None:
    limit = LimitConfig(subscription_limit_audio=2)
    async with (
        RoomServer(ServerConfig.dev(port=0, limit=limit), media=media) as server,
        client(server, media, "alice") as alice,
        client(server, media, "bob", offer=OfferText(8, 8)) as bob,
    ):
        tracks = [(await alice.publish(f"mic{n}")).sid for n in range(4)]
        camera = (await alice.publish("cam", "video")).sid
        active = server.manager.rooms["test"].participants["bob"].subscriptions.active
        await until(lambda: len(active) == 3, "two microphones and the camera")
        assert set(active) == {tracks[0], tracks[1], camera}
        assert server.manager.limited == {"subscriptions": 2}
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[tracks[0]], subscribe=False))
        await until(lambda: tracks[2] in active, "the one that waited longest")
        assert set(active) == {tracks[1], tracks[2], camera}
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[tracks[3]], subscribe=False))
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[tracks[1]], subscribe=False))
        await bob.settle()
        await asyncio.sleep(0)
        assert set(active) == {tracks[2], camera}, "who is not wanted any more does not come"


async def test_there_is_an_end_to_subscriptions_without_a_limit(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.subscriptions.MAX_SUBSCRIPTIONS", 3)
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        for number in range(5):
            await alice.publish(f"mic{number}")
        await bob.settle()
        assert len(server.manager.rooms["test"].participants["bob"].subscriptions.active) == 3


async def test_a_server_with_all_the_tracks_it_may_have_takes_nobody_else(media: FakeMediaServer) -> None:
    """`limit.num_tracks` counts what is published and what is received, as in livekit-server; it is no one's own limit."""
    async with RoomServer(ServerConfig.dev(port=0, limit=LimitConfig(num_tracks=3)), media=media) as server:
        async with client(server, media, "alice") as alice, client(server, media, "bob"):
            await alice.publish("one")
            assert server.manager.track_count() == 2, "alice's and bob's copy of it"
            assert (await refused_join(server, token("carol")))[0] == 200
            await alice.publish("two")
            assert await refused_join(server, token("carol")) == (503, "too many tracks on this server")
            async with client(server, media, "alice", query={"reconnect": "1"}, dual=True, connected=False) as back:
                assert back.seen[0].HasField("reconnect"), "who is in already may come back"
