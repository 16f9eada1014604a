"""A participant that sends nonsense does not disturb the call of others, with the real core underneath."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom import rtc as rtc_sdk
from greenroom.server.app import RoomServer
from greenroom.server.config import LimitConfig, RtcConfig, ServerConfig
from tests.conftest import token, until
from tests.unit.server_client import OfferText, wrap

from .hostile import plain_offer
from .rtc_pairs import OFFICIAL, dominant_frequency, feeding, in_room, listen

SEED = 20261121
ROUNDS = 150


class Intruder:
    """Joins with a good token and then misbehaves. Joins again whenever the server has had enough."""

    def __init__(self, server: RoomServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self.joins = 0

    async def send(self, frame: bytes) -> None:
        if self._ws is None or self._ws.closed:
            offer = rtc.SessionDescription(type="offer", sdp=str(OfferText()), id=1)
            info = models.ClientInfo(protocol=17)
            join = rtc.JoinRequest(
                client_info=info, publisher_offer=offer, connection_settings={"auto_subscribe": True}
            )
            headers = {"Authorization": f"Bearer {token('intruder')}"}
            self._ws = await self._session.ws_connect("/rtc/v1", params={"join_request": wrap(join)}, headers=headers)
            self.joins += 1
        try:
            await self._ws.send_bytes(frame)
            while True:
                async with asyncio.timeout(0.005):
                    message = await self._ws.receive()
                if message.type != aiohttp.WSMsgType.BINARY:
                    return
        except (TimeoutError, ConnectionError):
            return


def damaged(text: str, chance: random.Random) -> str:
    """An offer with a few lines lost, doubled, swapped or changed."""
    lines = text.split("\r\n")
    for _ in range(chance.randint(1, 6)):
        index = chance.randrange(len(lines))
        kind = chance.randrange(5)
        if kind == 0:
            del lines[index]
        elif kind == 1:
            lines.insert(index, lines[chance.randrange(len(lines))])
        elif kind == 2:
            other = chance.randrange(len(lines))
            lines[index], lines[other] = lines[other], lines[index]
        elif kind == 3:
            lines[index] = lines[index].replace(chance.choice("0123456789"), str(chance.randrange(10**6)))
        else:
            lines[index] = chance.choice(
                ["a=ssrc:1 cname:x", "a=ssrc-group:FID 1 1", "a=extmap:255 urn:x", "a=rid:q send", "a=simulcast:send q;q;q",
                 "a=sendrecv", "a=max-message-size:0", "a=setup:active", "a=fingerprint:sha-1 00", "a=ice-ufrag:"]
            )  # fmt: skip
    return "\r\n".join(lines)


def nonsense(chance: random.Random, published: list[str]) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randint(0, 300))
    if kind == 1:
        request = rtc.SignalRequest(ping_req=rtc.Ping(timestamp=1)).SerializeToString()
        return request[: chance.randrange(len(request))]
    if kind == 2:
        cid = f"cid{len(published)}"
        published.append(cid)
        layers = [models.VideoLayer(quality=chance.randrange(4), width=chance.randrange(2**32)) for _ in range(4)]
        request = rtc.AddTrackRequest(cid=cid, type=chance.randrange(3), source=chance.randrange(5), layers=layers)
        return rtc.SignalRequest(add_track=request).SerializeToString()
    if kind == 3:
        settings = rtc.UpdateTrackSettings(track_sids=["TR_x"] * 5, quality=chance.randrange(5), width=2**32 - 1)
        return rtc.SignalRequest(track_setting=settings).SerializeToString()
    offer = OfferText(chance.randrange(4), chance.randrange(4))
    for cid in published[-3:]:
        offer.publish(chance.choice(["audio", "video"]), cid, chance.choice(["", "q;h;f", "x;y"]))
    offer.ufrag = chance.choice(["abcd", "efgh"])
    text = str(offer) if kind == 4 else damaged(str(offer), chance)
    description = rtc.SessionDescription(type="offer", sdp=text, id=chance.randrange(2**32))
    return rtc.SignalRequest(offer=description).SerializeToString()


async def test_a_call_goes_on_beside_an_intruder(room_server: RoomServer) -> None:
    chance = random.Random(SEED)
    published: list[str] = []
    async with in_room(room_server, OFFICIAL, OFFICIAL) as (alice, bob):
        publication, tone = await alice.publish_tone(440)
        async with feeding(tone), aiohttp.ClientSession(room_server.url) as session:
            track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == publication.sid)
            intruder = Intruder(room_server, session)
            for _ in range(ROUNDS):
                await intruder.send(nonsense(chance, published))
            assert intruder.joins > 1, "some of it was too much"
            assert abs(dominant_frequency(await listen(bob, track)) - 440) < 3
            assert not bob.events("disconnected") and not alice.events("reconnecting")
        assert room_server.manager.media.metrics()["panics"] == 0


@pytest.mark.parametrize("fingerprint", ["sha-256 AA:BB", "sha-1 " + ":".join(["00"] * 20), "sha-256"])
async def test_an_offer_whose_fingerprint_is_no_sha_256_is_dropped_and_the_session_goes_on(
    room_server: RoomServer, caplog: pytest.LogCaptureFixture, fingerprint: str
) -> None:
    offer = "\r\n".join(
        f"a=fingerprint:{fingerprint}" if line.startswith("a=fingerprint:") else line
        for line in str(OfferText(1, 1)).split("\r\n")
    )
    join = rtc.JoinRequest(publisher_offer=rtc.SessionDescription(type="offer", sdp=offer, id=1))
    headers = {"Authorization": f"Bearer {token('odd')}"}
    async with aiohttp.ClientSession(room_server.url) as session, asyncio.timeout(10):
        async with session.ws_connect("/rtc/v1", params={"join_request": wrap(join)}, headers=headers) as socket:
            await socket.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
            kinds = []
            while "pong" not in kinds:
                message = rtc.SignalResponse.FromString(await socket.receive_bytes())
                kinds.append(message.WhichOneof("message"))
    assert kinds[0] == "join" and "answer" not in kinds
    assert "offer refused: not a sha-256 fingerprint" in caplog.text
    assert not [record for record in caplog.records if record.exc_info], "bad input is no crash"


# --- floods ----------------------------------------------------------------------------------------------------------

FLOOD_ADDRESS = "198.51.100.66"
MESSAGES = 100
REQUESTS = 25
CALLS = 10


class Flood:
    """One participant of room "noise", from an address of its own (as a proxy would name it), that sends one kind of
    message without end. It reads what comes, joins again when it is sent away, and comes to terms with refusals."""

    def __init__(self, server: RoomServer, identity: str) -> None:
        self._server = server
        self._identity = identity
        self.sent = 0
        self.sent_away = 0
        self.refused = 0

    async def run(self, message: Callable[[int], bytes]) -> None:
        headers = {"Authorization": f"Bearer {token(self._identity, 'noise')}", "X-Forwarded-For": FLOOD_ADDRESS}
        offer = rtc.SessionDescription(type="offer", sdp=str(plain_offer()), id=1)
        join = {"join_request": wrap(rtc.JoinRequest(publisher_offer=offer))}
        async with aiohttp.ClientSession(self._server.url) as session:
            while True:
                try:
                    async with session.ws_connect("/rtc/v1", params=join, headers=headers, max_msg_size=0) as socket:
                        await self._send(socket, message)
                    self.sent_away += 1
                except (aiohttp.ClientError, ConnectionError):
                    self.refused += 1
                await asyncio.sleep(0.05)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, message: Callable[[int], bytes]) -> None:
        async with feeding(asyncio.create_task(self._drain(socket))):
            while not socket.closed:
                await socket.send_bytes(message(self.sent))
                self.sent += 1
                await asyncio.sleep(0)

    @staticmethod
    async def _drain(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in socket:
            pass


def signal(**message: Any) -> bytes:
    return rtc.SignalRequest(**message).SerializeToString()


async def flood_requests(server: RoomServer, statuses: Counter[int]) -> None:
    async with aiohttp.ClientSession(server.url) as session:
        while True:
            async with session.get("/rtc/validate", headers={"X-Forwarded-For": FLOOD_ADDRESS}) as response:
                statuses[response.status] += 1


async def flood_data(server: RoomServer, identity: str, *, reliable: bool) -> None:
    room = rtc_sdk.Room()
    await room.connect(server.url.replace("http", "ws", 1), token(identity, "noise"))
    try:
        while True:
            try:
                await room.local_participant.publish_data(b"noise" * 20, reliable=reliable)
            except (RuntimeError, BufferError, rtc_sdk.PublishDataError):
                if room.connection_state != rtc_sdk.ConnectionState.CONN_CONNECTED:
                    return
            await asyncio.sleep(0)
    finally:
        await room.disconnect()


async def test_floods_in_one_room_are_not_noticed_in_another() -> None:
    """Offers, subscriptions, metadata, tracks, data and HTTP as fast as six participants can, in a room beside a call."""
    # A busy machine must still be able to send more requests than that.
    limit = LimitConfig(address_requests=10)
    config = ServerConfig.dev(port=0, rtc=RtcConfig(udp_port=0), limit=limit, trusted_proxies=["127.0.0.0/8", "::1"])
    offer = str(plain_offer())
    floods = {
        "offers": lambda n: signal(offer=rtc.SessionDescription(type="offer", sdp=offer, id=n)),
        "subscriptions": lambda n: signal(
            subscription=rtc.UpdateSubscription(track_sids=[f"TR_{n}_{k}" for k in range(100)], subscribe=True)
        ),
        "metadata": lambda n: signal(update_metadata=rtc.UpdateParticipantMetadata(metadata=f"{n}" + "m" * 10_000)),
        "tracks": lambda n: signal(add_track=rtc.AddTrackRequest(cid=str(n), type=models.TrackType.AUDIO)),
    }
    statuses: Counter[int] = Counter()
    async with (
        RoomServer(config) as server,
        in_room(server, OFFICIAL, OFFICIAL) as (alice, bob),
        contextlib.AsyncExitStack() as stack,
    ):
        publication, tone = await alice.publish_tone(440, 120)
        await stack.enter_async_context(feeding(tone))
        track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == publication.sid)
        received: list[int] = []
        bob.room.on("data_received", lambda packet: received.append(int(packet.data)))
        bob.me.register_rpc_method("double", double)
        attackers = {name: Flood(server, name) for name in floods}
        for name, flood in attackers.items():
            await stack.enter_async_context(feeding(asyncio.create_task(flood.run(floods[name]))))
        await stack.enter_async_context(feeding(asyncio.create_task(flood_requests(server, statuses))))
        for kind, reliable in (("lossy", False), ("reliable", True)):
            task = asyncio.create_task(flood_data(server, kind, reliable=reliable))
            await stack.enter_async_context(feeding(task))
        limited = server.manager.limited
        expected = ["held_offers", "held_subscriptions", "held_updates", "held_track_requests", "http_requests"]
        await until(lambda: all(limited[name] for name in expected), "all of it is too much", 30)

        async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(60):
            for number in range(MESSAGES):
                await alice.me.publish_data(str(number), reliable=True, topic="count")
            for _ in range(REQUESTS):
                async with session.get("/") as response:
                    assert (response.status, await response.text()) == (200, "OK")
            for number in range(CALLS):
                answer = await alice.me.perform_rpc(
                    destination_identity="bob", method="double", payload=str(number), response_timeout=20
                )
                assert answer == str(2 * number)
        await until(lambda: len(received) == MESSAGES, "every message has come")
        assert received == list(range(MESSAGES)), "in order"
        await listen(bob, track)
        for member in (alice, bob):
            assert not member.events("disconnected") and not member.events("reconnecting")
        assert all(flood.sent > 100 for flood in attackers.values())
        assert statuses[429] > 0 and set(statuses) <= {401, 429}
        assert not server.manager.rooms["test"].data.drops(), "nobody else paid for it"
        assert not {p.identity for p in server.manager.rooms["test"].participants.values()} - {"alice", "bob"}


async def double(invocation: Any) -> str:
    return str(2 * int(invocation.payload))
