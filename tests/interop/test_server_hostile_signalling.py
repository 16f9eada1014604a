"""A participant that sends nonsense does not disturb the call of others, with the real core underneath."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from tests.conftest import token
from tests.unit.server_client import OfferText, wrap

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
