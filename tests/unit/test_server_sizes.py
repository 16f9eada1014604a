"""What was accepted is accepted again: every size of metadata and attributes through join, update, resume and rejoin."""

from __future__ import annotations

import random
from typing import Any

import aiohttp
import pytest
from livekit.protocol import rtc
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import CreateRoomRequest, RoomConfiguration, UpdateParticipantRequest

from greenroom.api import AccessToken, LiveKitAPI, TokenVerifier, VideoGrants
from greenroom.api.twirp import ServerError
from greenroom.server.app import RoomServer
from greenroom.server.config import ConfigError, LimitConfig, ServerConfig
from tests.unit.server_client import Client, client
from tests.unit.server_fakes import FakeMediaServer

METADATA = 512 * 1024
ATTRIBUTES = 64 * 1024
SIZES = (0, 2_000, 60_000, METADATA)


def noise(size: int) -> str:
    """Text that no compression makes much shorter."""
    return "".join(
        random.Random(size).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=size)
    )


KINDS = {
    "plain": lambda size: "m" * size,
    "noise": noise,
    "JSON": lambda size: ('{"a":"b"}' * (size // 9 + 1))[:size],
    "quotes": lambda size: '"' * size,
    "not ASCII": lambda size: "é" * (size // 2) + "x" * (size % 2),
}


@pytest.fixture
async def api(server: RoomServer):
    async with LiveKitAPI(server.url, "devkey", "secret") as one:
        yield one


async def renewed(one: Client, metadata: str) -> str:
    """The token that it was last told, once that carries `metadata`."""
    verifier = TokenVerifier("devkey", "secret")
    for response in reversed(one.seen):
        if response.HasField("refresh_token") and verifier.verify(response.refresh_token).metadata == metadata:
            return response.refresh_token
    token: str = await one.expect("refresh_token", lambda told: verifier.verify(told).metadata == metadata)
    return token


def signed(
    metadata: str = "", attributes: dict[str, str] | None = None, config: RoomConfiguration | None = None
) -> str:
    grants = VideoGrants(room_join=True, room="test", can_update_own_metadata=True)
    made = AccessToken("devkey", "secret").with_identity("alice").with_grants(grants).with_metadata(metadata)
    made.with_attributes(attributes or {})
    return (made.with_room_config(config) if config else made).to_jwt()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_query", [False, True], ids=["header", "query"])
async def test_every_size_that_is_accepted_comes_back(
    server: RoomServer, media: FakeMediaServer, api: LiveKitAPI, kind: str, in_query: bool
) -> None:
    """The official JavaScript client sends its token in the query, others in a header."""
    for size in SIZES:
        metadata = KINDS[kind](size)
        attributes = {"k": KINDS[kind](min(size, ATTRIBUTES) - 1)} if size > 1 else {}

        def enter(jwt: str, **how: Any) -> Any:
            if in_query:
                how["query"] = {**how.get("query", {}), "access_token": jwt}
            return client(server, media, "alice", jwt=jwt, **how)

        # Update, resume, rejoin.
        async with enter(signed()) as alice:
            await api.room.update_participant(
                UpdateParticipantRequest(room="test", identity="alice", metadata=metadata, attributes=attributes)
            )
            token = await renewed(alice, metadata)
            sid = alice.sid
            query = {"reconnect": "1", "sid": sid}
            async with enter(token, query=query, dual=True, connected=False) as back:
                assert back.seen[0].WhichOneof("message") == "reconnect", f"{size} bytes: not resumed"
                token = await renewed(back, metadata)
        async with enter(token) as again:
            me = again.joined.participant
            assert me.sid != sid and (me.metadata, dict(me.attributes)) == (metadata, attributes), f"{size} bytes"
        # Join with it, and come back with the token that this gave.
        async with enter(signed(metadata, attributes)) as alice:
            assert alice.joined.participant.metadata == metadata
            token = await renewed(alice, metadata)
        async with enter(token) as again:
            assert again.joined.participant.metadata == metadata
            await again.send(leave=rtc.LeaveRequest())


@pytest.mark.parametrize("kind", KINDS)
async def test_one_byte_more_is_refused_everywhere(server: RoomServer, media: FakeMediaServer, kind: str) -> None:
    metadata = KINDS[kind](METADATA) + "x"
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.get("/rtc/validate", headers={"Authorization": f"Bearer {signed(metadata)}"}) as response,
    ):
        assert (response.status, await response.text()) == (400, f"metadata exceeds the limit of {METADATA} bytes")
    async with client(server, media, "alice") as alice:
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(metadata=metadata, request_id=7))
        response = await alice.expect("request_response")
        assert response.request_id == 7 and response.reason == rtc.RequestResponse.Reason.LIMIT_EXCEEDED


async def test_a_room_configuration_comes_back_with_the_token(server: RoomServer, media: FakeMediaServer) -> None:
    config = RoomConfiguration(
        metadata=noise(100_000), agents=[RoomAgentDispatch(agent_name="x", metadata=noise(9000))]
    )
    metadata = noise(METADATA)
    async with client(server, media, "alice", jwt=signed(metadata, {"k": noise(60_000)}, config)) as alice:
        token = await renewed(alice, metadata)
    await server.manager.delete_room("test")
    async with client(server, media, "alice", jwt=token) as alice:
        assert alice.joined.room.metadata == config.metadata
        assert TokenVerifier("devkey", "secret").verify(await renewed(alice, metadata)).room_config == config


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (RoomConfiguration(metadata="m" * (METADATA + 1)), f"room metadata exceeds the limit of {METADATA} bytes"),
        (
            RoomConfiguration(agents=[RoomAgentDispatch(metadata="m" * 500_000)]),
            "the token's room configuration exceeds the limit of 425984 bytes",
        ),
    ],
)
async def test_a_room_configuration_that_could_not_come_back_is_refused(
    server: RoomServer, config: RoomConfiguration, text: str
) -> None:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.get("/rtc/validate", headers={"Authorization": f"Bearer {signed(config=config)}"}) as response,
    ):
        assert (response.status, await response.text()) == (400, text)


async def test_without_limits_there_is_still_one_that_a_token_can_carry(media: FakeMediaServer) -> None:
    limit = LimitConfig(max_metadata_size=0, max_attributes_size=0)
    async with RoomServer(ServerConfig.dev(port=0, limit=limit), media=media) as server:
        async with client(server, media, "alice", jwt=signed(noise(1024 * 1024))) as alice:
            token = await renewed(alice, noise(1024 * 1024))
        async with client(server, media, "alice", jwt=token) as alice:
            assert len(alice.joined.participant.metadata) == 1024 * 1024
    with pytest.raises(ConfigError, match=r"limit\.max_metadata_size is 2000000, it can be 1048576 at most"):
        ServerConfig.dev(limit=LimitConfig(max_metadata_size=2_000_000)).check()


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (RoomAgentDispatch(metadata="m" * (METADATA + 1)), "metadata size exceeds limits"),
        (RoomAgentDispatch(attributes={"k": "v" * ATTRIBUTES}), "attributes size exceeds limits"),
    ],
)
async def test_what_a_new_room_asks_of_its_agents_has_the_limits(
    api: LiveKitAPI, wish: RoomAgentDispatch, text: str
) -> None:
    with pytest.raises(ServerError, match=text):
        await api.room.create_room(CreateRoomRequest(name="test", agents=[wish]))
