"""What each grant, each track source and each update of permissions allows: the answers of livekit-server 1.13.5.

The tables were read in its source (`protocol/auth/grants.go`) and compared with a running one; `ask` speaks nothing but the
wire protocol, so that it can be pointed at either.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt as pyjwt
import pytest
from livekit.protocol import models, rtc
from livekit.protocol.room import RoomParticipantIdentity, UpdateParticipantRequest

from greenroom.api import AccessToken, LiveKitAPI, TokenVerifier, VideoGrants
from greenroom.server.app import RoomServer
from tests.unit.server_client import client
from tests.unit.server_fakes import FakeMediaServer

Source = models.TrackSource
Permission = models.ParticipantPermission

ALL = {"unknown", "camera", "microphone", "screen_share", "screen_share_audio"}
NONE: set[str] = set()


class Session:
    """A signalling session that asks to publish one track of each source."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.joined = rtc.JoinResponse()
        self.token = ""
        self._asked = 0

    async def receive(self) -> rtc.SignalResponse:
        async with asyncio.timeout(5):
            response = rtc.SignalResponse.FromString(await self.ws.receive_bytes())
        if response.HasField("refresh_token"):
            self.token = response.refresh_token
        return response

    async def allowed(self) -> set[str]:
        """The sources of which a track may be published now."""
        self._asked += 1
        waiting = {}
        for source in Source.values():
            cid = f"{self._asked}-{source}"
            waiting[cid] = Source.Name(source).lower()
            type_ = models.TrackType.VIDEO if source in (1, 3) else models.TrackType.AUDIO
            request = rtc.AddTrackRequest(cid=cid, name=cid, source=source, type=type_)
            await self.ws.send_bytes(rtc.SignalRequest(add_track=request).SerializeToString())
        found = set()
        while waiting:
            response = await self.receive()
            if response.HasField("track_published"):
                found.add(waiting.pop(response.track_published.cid))
            elif response.HasField("request_response") and response.request_response.HasField("add_track"):
                assert response.request_response.reason == rtc.RequestResponse.Reason.NOT_ALLOWED
                waiting.pop(response.request_response.add_track.cid)
        return found

    async def permission(self, condition: Any = lambda permission: True) -> Permission:
        """The next of its own that it is told, for which `condition` holds."""
        while True:
            response = await self.receive()
            for info in response.update.participants:
                if info.sid == self.joined.participant.sid and condition(info.permission):
                    return info.permission


def signed(video: dict[str, Any], key: str = "devkey", secret: str = "secret") -> str:
    now = int(time.time())
    claims = {"iss": key, "sub": "alice", "nbf": now, "exp": now + 600}
    return pyjwt.encode({**claims, "video": {"roomJoin": True, "room": "grants", **video}}, secret)


@asynccontextmanager
async def session(url: str, video: dict[str, Any]) -> AsyncIterator[Session]:
    query = {"access_token": signed(video), "protocol": "16", "sdk": "js", "auto_subscribe": "1"}
    async with aiohttp.ClientSession(url) as http, http.ws_connect("/rtc", params=query) as ws:
        one = Session(ws)
        one.joined = (await one.receive()).join
        yield one


def named(value: object) -> str:
    """The same in every process: sets have no order of their own."""
    return str(sorted(value) if isinstance(value, set | frozenset) else value)[:60]


def shown(can_publish: bool, sources: list[int] | None = None, data: bool | None = None, **others: bool) -> Permission:
    return Permission(
        can_publish=can_publish,
        can_publish_sources=sources or [],
        can_publish_data=can_publish if data is None else data,
        **{"can_subscribe": True, **others},
    )


TOKENS: list[tuple[dict[str, Any], set[str], Permission]] = [
    ({}, ALL, shown(True)),
    ({"canPublish": True}, ALL, shown(True)),
    ({"canPublish": False}, NONE, shown(False)),
    ({"canPublishSources": []}, ALL, shown(True)),
    ({"canPublishSources": ["microphone"]}, {"microphone"}, shown(True, [Source.MICROPHONE])),
    (
        {"canPublishSources": ["screen_share", "screen_share_audio"]},
        {"screen_share", "screen_share_audio"},
        shown(True, [Source.SCREEN_SHARE, Source.SCREEN_SHARE_AUDIO]),
    ),
    ({"canPublish": True, "canPublishSources": ["camera"]}, {"camera"}, shown(True, [Source.CAMERA])),
    ({"canPublish": False, "canPublishSources": ["microphone"]}, NONE, shown(False, [Source.MICROPHONE])),
    ({"canPublishSources": ["unknown"]}, {"unknown"}, shown(True, [Source.UNKNOWN])),
    ({"canPublishSources": ["micro"]}, NONE, shown(True, [Source.UNKNOWN])),
    ({"canPublishSources": ["MICROPHONE"]}, NONE, shown(True, [Source.MICROPHONE])),
    ({"canPublishSources": ["camera", "micro"]}, {"camera"}, shown(True, [Source.CAMERA, Source.UNKNOWN])),
    ({"canPublishData": False}, ALL, shown(True, data=False)),
    ({"canPublish": False, "canPublishData": True}, NONE, shown(False, data=True)),
    ({"canSubscribe": False}, ALL, shown(True, can_subscribe=False)),
    ({"canSubscribeMetrics": True}, ALL, shown(True, can_subscribe_metrics=True)),
    ({"canUpdateOwnMetadata": True}, ALL, shown(True, can_update_metadata=True)),
    ({"canManageAgentSession": True}, ALL, shown(True, can_manage_agent_session=True)),
    ({"hidden": True, "recorder": True}, ALL, shown(True, hidden=True, recorder=True)),
    ({"agent": True}, ALL, shown(True, agent=True)),
]


@pytest.mark.parametrize(("video", "sources", "permission"), TOKENS, ids=named)
async def test_what_a_token_allows(
    server: RoomServer, video: dict[str, Any], sources: set[str], permission: Permission
) -> None:
    async with session(server.url, video) as alice:
        assert await alice.allowed() == sources
        assert alice.joined.participant.permission == permission
        assert alice.joined.fast_publish == permission.can_publish
        # What comes back with the refreshed token is what was there.
        again = TokenVerifier("devkey", "secret").verify(alice.token).video
    await server.manager.delete_room("grants")
    assert again is not None
    async with session(server.url, {k: v for k, v in pyjwt_video(alice.token).items() if k != "room"}) as alice:
        assert await alice.allowed() == sources and alice.joined.participant.permission == permission


def pyjwt_video(token: str) -> dict[str, Any]:
    video: dict[str, Any] = pyjwt.decode(token, options={"verify_signature": False})["video"]
    return video


UPDATES: list[tuple[dict[str, Any], Permission, set[str]]] = [
    ({}, shown(False), NONE),
    ({"canPublish": False}, shown(True), ALL),
    ({}, shown(True, [Source.CAMERA]), {"camera"}),
    ({}, shown(False, [Source.CAMERA]), NONE),
    ({"canPublishSources": ["camera"]}, shown(True, [Source.MICROPHONE]), {"microphone"}),
    ({"canPublishSources": ["camera"]}, shown(True, data=False), ALL),
    ({"canPublishSources": ["micro"]}, shown(True, [Source.UNKNOWN], data=False), {"unknown"}),
    ({"canPublishSources": ["camera"]}, Permission(), NONE),
    ({"canUpdateOwnMetadata": True, "hidden": True}, shown(True), ALL),
    ({}, shown(True, can_update_metadata=True, can_subscribe_metrics=True, recorder=True, hidden=True), ALL),
]


@pytest.mark.parametrize(("video", "permission", "sources"), UPDATES, ids=named)
async def test_what_an_update_of_permissions_allows(
    server: RoomServer, video: dict[str, Any], permission: Permission, sources: set[str]
) -> None:
    async with session(server.url, video) as alice, LiveKitAPI(server.url, "devkey", "secret") as api:
        await api.room.update_participant(
            UpdateParticipantRequest(room="grants", identity="alice", permission=permission)
        )
        assert await alice.permission(lambda told: told == permission)
        assert await alice.allowed() == sources
        found = await api.room.get_participant(RoomParticipantIdentity(room="grants", identity="alice"))
        assert found.permission == permission
        claims = TokenVerifier("devkey", "secret").verify(alice.token).video
        assert claims is not None
        assert (claims.can_publish, claims.can_publish_data) == (permission.can_publish, permission.can_publish_data)
        assert (bool(claims.recorder), bool(claims.hidden)) == (permission.recorder, permission.hidden)


async def test_narrower_permissions_end_what_is_published(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish("mic")
        request = rtc.PublishDataTrackRequest(pub_handle=1, name="d")
        await alice.send(publish_data_track_request=request)
        await alice.expect("publish_data_track_response")
        participant = server.manager.rooms["test"].participants["alice"]
        assert participant.is_publisher
        participant.update(permission=shown(False, [Source.MICROPHONE]))
        await alice.expect("unpublish_data_track_response")
        assert not participant.tracks and not participant.data_tracks and not participant.is_publisher


async def test_a_publishing_session_needs_the_grant(server: RoomServer) -> None:
    """`publish=name` is a second session of the identity that only publishes."""
    async with aiohttp.ClientSession(server.url) as http:
        for video, status in (({}, 200), ({"canPublish": False}, 401)):
            query = {"access_token": signed(video), "publish": "screen"}
            async with http.get("/rtc/validate", params=query) as response:
                assert response.status == status


async def test_an_empty_attribute_at_the_join_takes_none_of_the_token_away(
    server: RoomServer, media: FakeMediaServer
) -> None:
    made = AccessToken("devkey", "secret").with_identity("alice").with_ttl(datetime.timedelta(minutes=1))
    made.with_grants(VideoGrants(room_join=True, room="test", can_update_own_metadata=True))
    jwt = made.with_attributes({"role": "host"}).to_jwt()
    own = {"role": "", "mood": "good", "none": ""}
    async with client(server, media, "alice", jwt=jwt, participant_attributes=own) as alice:
        assert dict(alice.joined.participant.attributes) == {"role": "host", "mood": "good"}
