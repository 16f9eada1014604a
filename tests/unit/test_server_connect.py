"""Connecting: paths, validation, what is refused and how, and hostile frames."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import random
import time

import aiohttp
import jwt as pyjwt
import pytest
from livekit.protocol import models, rtc

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.join import BadJoin, parse_join
from tests.conftest import token, until

from .server_client import OfferText, client, wrap
from .server_fakes import FakeMediaServer


async def get(server: RoomServer, path: str, **options: object) -> tuple[int, str]:
    async with aiohttp.ClientSession(server.url) as session, session.get(path, **options) as response:
        return response.status, await response.text()


def bearer(jwt: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt}"}


async def test_validate_answers_success(server: RoomServer) -> None:
    assert await get(server, "/rtc/validate", params={"access_token": token("a")}) == (200, "success")
    params = {"join_request": wrap(rtc.JoinRequest())}
    assert await get(server, "/rtc/v1/validate", params=params, headers=bearer(token("a"))) == (200, "success")
    assert not server.manager.rooms, "asking does not make a room"


async def test_v1_needs_a_join_request(server: RoomServer) -> None:
    assert await get(server, "/rtc/v1/validate", headers=bearer(token("a"))) == (400, "join_request is required")


@pytest.mark.parametrize("path", ["/rtc", "/rtc/v1"])
async def test_plain_get_on_the_socket_path_is_404(server: RoomServer, path: str) -> None:
    assert (await get(server, path, headers=bearer(token("a"))))[0] == 404


def signed(secret: str = "secret", **claims: object) -> str:
    # Parameters are made when tests are collected, which may be long before they run.
    payload = {"iss": "devkey", "sub": "a", "exp": time.time() + 86_400, "video": {"roomJoin": True, "room": "test"}}
    return pyjwt.encode({key: value for key, value in {**payload, **claims}.items() if value is not None}, secret)


@pytest.mark.parametrize(
    ("jwt", "status"),
    [
        ("", 401),
        ("garbage", 401),
        (signed(secret="another"), 401),
        (signed(exp=time.time() - 3600), 401),
        (signed(exp=None), 401),
        (signed(iss="unknown"), 401),
        (signed(video={"room": "test"}), 401),
        (signed(sub=""), 400),
        (signed(video={"roomJoin": True}), 400),
        (signed(sub="x" * 257), 400),
        (signed(name="x" * 257), 400),
        (signed(video={"roomJoin": True, "room": "x" * 257}), 400),
    ],
    ids=["none", "garbage", "forged", "expired", "endless", "unknown key", "no grant", "no identity", "no room",
         "long identity", "long name", "long room"],
)  # fmt: skip
async def test_bad_tokens_are_refused_before_the_upgrade(server: RoomServer, jwt: str, status: int) -> None:
    headers = bearer(jwt) if jwt else {}
    assert (await get(server, "/rtc/validate", headers=headers))[0] == status
    async with aiohttp.ClientSession(server.url) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/rtc", headers=headers)
        assert refused.value.status == status
    assert not server.manager.rooms


async def test_unknown_room_is_404_without_auto_create(server: RoomServer) -> None:
    server.manager.settings = dataclasses.replace(server.manager.settings, auto_create=False)
    answer = await get(server, "/rtc/validate", headers=bearer(token("a")))
    assert answer == (404, "requested room does not exist")


async def test_attributes_need_the_permission(server: RoomServer) -> None:
    grants = VideoGrants(room_join=True, room="test")
    jwt = AccessToken("devkey", "secret").with_identity("a").with_grants(grants).to_jwt()
    encoded = base64.urlsafe_b64encode(b'{"k": "v"}').decode()
    assert (await get(server, "/rtc/validate", params={"attributes": encoded}, headers=bearer(jwt)))[0] == 401
    assert (await get(server, "/rtc/validate", params={"attributes": encoded}, headers=bearer(token("a"))))[0] == 200
    assert (await get(server, "/rtc/validate", params={"attributes": "e%"}, headers=bearer(token("a"))))[0] == 400


async def test_join_attributes_override_the_tokens(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", metadata="mine", participant_attributes={"k": "v"}) as alice:
        assert alice.joined.participant.metadata == "mine" and dict(alice.joined.participant.attributes) == {"k": "v"}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("padding", [True, False])
def test_join_request_encodings(compress: bool, padding: bool) -> None:
    request = rtc.JoinRequest(
        client_info=models.ClientInfo(protocol=17), participant_sid="PA_x", connection_settings={"auto_subscribe": True}
    )
    join = parse_join({"join_request": wrap(request, compress=compress, padding=padding)}, "", single=True)
    assert join.single and join.participant_sid == "PA_x" and join.client.protocol == 17 and join.auto_subscribe


def test_auto_subscribe_of_a_join_request_is_off_unless_set() -> None:
    assert not parse_join({"join_request": wrap(rtc.JoinRequest())}, "", single=True).auto_subscribe


def test_query_of_the_older_path() -> None:
    query = {
        "auto_subscribe": "0", "adaptive_stream": "1", "sdk": "js", "version": "2.23.0", "protocol": "17",
        "client_protocol": "2", "reconnect": "1", "sid": "PA_x", "capabilities": "CAP_PACKET_TRAILER,CAP_FUTURE",
    }  # fmt: skip
    join = parse_join(query, "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", single=False)
    assert not join.single and not join.auto_subscribe and join.adaptive_stream and join.reconnect
    assert join.client.sdk == models.ClientInfo.SDK.JS and len(join.client.capabilities) == 1
    assert (join.client.browser, join.client.browser_version, join.client.os) == ("firefox", "140.0", "linux")


def test_older_path_with_join_request_is_single() -> None:
    assert parse_join({"join_request": wrap(rtc.JoinRequest())}, "", single=False).single


def bomb() -> str:
    raw = gzip.compress(b"\0" * (64 << 20))
    wrapped = rtc.WrappedJoinRequest(compression=1, join_request=raw).SerializeToString()
    return base64.b64encode(wrapped).decode()


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "AAAA",
        base64.b64encode(b"\xff" * 100).decode(),
        base64.b64encode(rtc.WrappedJoinRequest(compression=1, join_request=b"no gzip").SerializeToString()).decode(),
        wrap(rtc.JoinRequest(metadata=random.Random(2).randbytes(900).hex()))[:200],
        bomb(),
    ],
    ids=["not base64", "zeros", "no protobuf", "no gzip", "cut", "bomb"],
)
def test_bad_join_requests_are_refused(text: str) -> None:
    with pytest.raises(BadJoin):
        parse_join({"join_request": text}, "", single=True)


async def test_long_request_lines_are_taken(server: RoomServer, media: FakeMediaServer) -> None:
    text = wrap(rtc.JoinRequest(metadata=random.Random(1).randbytes(18000).hex()))
    assert 20_000 < len(text) < 60_000
    params = {"join_request": text}
    assert (await get(server, "/rtc/v1/validate", params=params, headers=bearer(token("a"))))[0] == 200


async def test_publish_only_session_has_an_identity_of_its_own(server: RoomServer, media: FakeMediaServer) -> None:
    query = {"publish": "screen"}
    room = "test"
    async with client(server, media, "alice", dual=True, connected=False, query=query) as alice:
        assert alice.joined.participant.identity == "alice#screen"
        assert not alice.joined.participant.permission.can_subscribe
        assert list(server.manager.rooms[room].participants) == ["alice#screen"]


GARBAGE = [b"\xff" * 10, b"\x0a\xff\xff\xff\x7f", b"\0", random.Random(7).randbytes(4096)]


async def test_garbage_frames_are_counted_and_the_session_goes_on(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        for frame in GARBAGE:
            await alice.ws.send_bytes(frame)
        await alice.settle()
        await bob.settle()


async def test_endless_garbage_ends_the_connection(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        for _ in range(20):
            await alice.ws.send_bytes(b"\xff" * 10)
        message = await alice.ws.receive(timeout=5)
        while message.type == aiohttp.WSMsgType.BINARY:
            message = await alice.ws.receive(timeout=5)
        assert message.type == aiohttp.WSMsgType.CLOSE and alice.ws.close_code == 1003
        await bob.settle()


async def test_garbage_json_is_counted(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        for text in ("{", "[]", '{"ping": {}}', '{"nonsense": 1}', "[" * 5000):
            await alice.ws.send_str(text)
        await alice.ws.send_str('{"pingReq": {"timestamp": "1"}}')
        message = await alice.ws.receive(timeout=5)
        assert message.type == aiohttp.WSMsgType.TEXT and "pongResp" in message.data


async def test_frames_beyond_2_mib_end_the_connection(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await alice.ws.send_bytes(b"\0" * (2 * 1024 * 1024 + 1))
        message = await alice.ws.receive(timeout=5)
        while message.type == aiohttp.WSMsgType.BINARY:
            message = await alice.ws.receive(timeout=5)
        assert message.type == aiohttp.WSMsgType.CLOSE and alice.ws.close_code == 1009
        await bob.settle()


async def test_every_request_survives_empty_and_strange_contents(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", offer=OfferText()) as alice, client(server, media, "bob") as bob:
        for field in rtc.SignalRequest.DESCRIPTOR.fields:
            if field.name in ("leave", "simulate"):
                continue
            request = rtc.SignalRequest()
            if field.message_type:
                getattr(request, field.name).SetInParent()
            else:
                setattr(request, field.name, 0)
            await alice.ws.send_bytes(request.SerializeToString())
        await alice.send(trickle=rtc.TrickleRequest(candidateInit="{"))
        await alice.send(mute=rtc.MuteTrackRequest(sid="TR_other"))
        await alice.settle()
        await bob.settle()


async def test_slow_reader_is_cut_off(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.connection.MAX_QUEUED", 10_000)
    async with client(server, media, "alice") as alice:
        participant = server.manager.rooms["test"].participants["alice"]
        for _ in range(20):
            participant.send(refresh_token="x" * 1000)
        await until(lambda: not participant.connected_signal, "the connection is ended")
        assert alice.sid
