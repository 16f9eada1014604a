"""Bad input of every kind: it is refused in the documented words or dropped and counted, memory stays flat, and the call
in another room notices nothing. Everything stays on loopback and is bounded in count."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom._native import LoadEngine
from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import token, until
from tests.unit.server_client import Client, client as unit_client, wrap

from .hostile import (
    Attacker,
    KeyedOffer,
    Ledger,
    address_of,
    binding_request,
    calm_call,
    of_answer,
    plain_offer,
    resident_mb,
)

SEED = 20261121
ROUNDS = 6
"""After the first two, memory must not grow any more."""
DATAGRAMS = 400
FLAT_MB = 24.0
"""What two official clients and their decoders in the same process may move by themselves."""


def join_query() -> dict[str, str]:
    offer = rtc.SessionDescription(type="offer", sdp=str(plain_offer()), id=1)
    return {"join_request": wrap(rtc.JoinRequest(client_info=models.ClientInfo(protocol=17), publisher_offer=offer))}


def signed(key: str, secret: str, grants: VideoGrants | None, minutes: float = 60) -> str:
    made = AccessToken(key, secret).with_identity("mallory").with_ttl(datetime.timedelta(minutes=minutes))
    return (made.with_grants(grants) if grants else made).to_jwt()


def client(server: RoomServer, identity: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Client]:
    """A signalling client in the den; media is the real core's."""
    media: Any = None
    offer = options.pop("offer", None) or plain_offer()
    return unit_client(server, media, identity, room="den", connected=False, offer=offer, **options)


ALLOWED = VideoGrants(room_join=True, room="den")
TOKENS = {
    "expired": (signed(DEV_KEY, DEV_SECRET, ALLOWED, -5), "invalid token: token is expired"),
    "another secret": (signed(DEV_KEY, "guess", ALLOWED), "invalid token: signature does not match"),
    "unknown key": (signed("stranger", DEV_SECRET, ALLOWED), "invalid API key"),
    "no token": ("garbage", "invalid authorization token"),
    "unsigned": (
        "eyJhbGciOiJub25lIn0.eyJpc3MiOiJkZXZrZXkiLCJzdWIiOiJ4IiwidmlkZW8iOnsicm9vbUpvaW4iOnRydWUsInJvb20iOiJkZW4ifX0.",
        "invalid token",
    ),
    "no grants": (signed(DEV_KEY, DEV_SECRET, None), "permissions denied"),
    "no grant to join": (signed(DEV_KEY, DEV_SECRET, VideoGrants(room_list=True)), "permissions denied"),
}


@pytest.mark.parametrize("path", ["/rtc", "/rtc/v1"])
async def test_bad_tokens_are_refused_in_the_documented_words(room_server: RoomServer, path: str) -> None:
    query = join_query() if path == "/rtc/v1" else {"protocol": "17"}
    async with aiohttp.ClientSession(room_server.url) as session:
        for name, (jwt, text) in TOKENS.items():
            headers = {"Authorization": f"Bearer {jwt}"}
            async with session.get(f"{path}/validate", params=query, headers=headers) as response:
                body = await response.text()
                assert (response.status, text in body) == (401, True), f"{name}: {response.status} {body}"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(path, params=query, headers=headers)
            assert refused.value.status == 401, name
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(path, params={**query, "access_token": jwt})
            assert refused.value.status == 401, name
        for bad in ({}, {"join_request": "%%%"}, {"join_request": "AAAA"}):
            headers = {"Authorization": f"Bearer {token('mallory', 'den')}"}
            if path == "/rtc/v1" and bad:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(path, params=bad, headers=headers)
                assert refused.value.status == 400
    assert "den" not in room_server.manager.rooms


FRAMES: dict[str, Any] = {
    "oversized": lambda chance: chance.randbytes(3 << 20),
    "garbage": lambda chance: b"\xff" + chance.randbytes(200),
    "truncated": lambda _: rtc.SignalRequest(offer=rtc.SessionDescription(sdp="x" * 300)).SerializeToString()[:-100],
    "text": lambda _: "this is no JSON",
    "deep JSON": lambda _: '{"offer":' * 5000,
    "wrong JSON": lambda _: '{"offer": 7}',
}


@pytest.mark.parametrize("kind", FRAMES)
async def test_frames_that_cannot_be_read_end_the_session_at_last(room_server: RoomServer, kind: str) -> None:
    chance = random.Random(SEED)
    headers = {"Authorization": f"Bearer {token('mallory', 'den')}"}
    async with (
        aiohttp.ClientSession(room_server.url) as session,
        session.ws_connect("/rtc/v1", params=join_query(), headers=headers, max_msg_size=0) as ws,
    ):
        await ws.receive(timeout=5)
        frame = FRAMES[kind](chance)
        with contextlib.suppress(ConnectionError):
            # The first frame that is too long ends the session; what cannot be read is forgiven a few times.
            for _ in range(1 if kind == "oversized" else 20):
                await (ws.send_str(frame) if isinstance(frame, str) else ws.send_bytes(frame))
        async with asyncio.timeout(10):
            while not ws.closed:
                await ws.receive()
        assert ws.close_code == (1009 if kind == "oversized" else 1003)
    async with client(room_server, "another") as other:
        assert other.answer is not None, "the server goes on"


async def flat(call: Any, attack: Any) -> None:
    """Attacks in rounds; the calm call is heard after each."""
    sizes = []
    for _ in range(ROUNDS):
        await attack()
        await call.undisturbed(0.2)
        sizes.append(resident_mb())
    print("resident MB after each round", [round(size, 1) for size in sizes])
    assert sizes[-1] - sizes[1] < FLAT_MB, f"memory grew: {sizes}"


async def test_datagrams_of_strangers(room_server: RoomServer) -> None:
    chance = random.Random(SEED)
    async with (
        calm_call(room_server) as call,
        client(room_server, "mallory") as mallory,
    ):
        sdp = mallory.answer_message.sdp
        ufrag, pwd = of_answer(sdp, "ice-ufrag"), of_answer(sdp, "ice-pwd")
        attacker = Attacker(address_of(sdp))
        ledger = Ledger(room_server)

        async def attack() -> None:
            for _ in range(DATAGRAMS):
                # RFC 7983: 0..3 STUN, 20..63 DTLS, 128..191 RTP and RTCP; the rest is nothing.
                first = chance.choice([0, 1, 22, 100, 128, 144, 255])
                await attacker.send(bytes([first]) + chance.randbytes(chance.randrange(1200)))
                await attacker.send(binding_request(f"{chance.randbytes(4).hex()}:x", "guess", chance=chance))
                await attacker.send(binding_request(f"{ufrag}:x", "wrong password", chance=chance))
                damaged = bytearray(binding_request(f"{ufrag}:x", pwd, chance=chance))
                damaged[chance.randrange(20, len(damaged))] ^= 1 + chance.randrange(255)
                await attacker.send(bytes(damaged[: chance.randrange(1, len(damaged))]))
                await attacker.send(b"")

        try:
            await flat(call, attack)
        finally:
            attacker.close()
        dropped = ledger.changes()
        # The kernel may lose some of a flood; what arrives is counted.
        for counter in ("dropped_address", "dropped_stun_bad", "dropped_stun_user"):
            assert dropped.get(counter, 0) > ROUNDS * DATAGRAMS // 10, f"{counter}: {dropped}"
        assert room_server.manager.media.metrics()["panics"] == 0


@asynccontextmanager
async def connected(server: RoomServer, engine: LoadEngine) -> AsyncIterator[tuple[int, Any, str]]:
    """Mallory with a real transport, publishing sound: the engine's peer, the signalling client, the mid."""
    peer, ufrag, pwd = engine.add_peer()
    offer = KeyedOffer(ufrag, pwd, engine.fingerprint)
    mid = offer.publish("audio", "cid")
    tracks = [rtc.AddTrackRequest(cid="cid", type=models.AUDIO, source=models.MICROPHONE)]
    async with client(server, "mallory", offer=offer, add_track_requests=tracks) as one:
        sdp = one.answer_message.sdp
        host, port = address_of(sdp)
        engine.connect(
            peer, f"{host}:{port}", of_answer(sdp, "ice-ufrag"), of_answer(sdp, "ice-pwd"), of_answer(sdp, "fingerprint"),
            controlling=True, dtls_client=True,
        )  # fmt: skip
        await until(lambda: engine.stats()["peers"][peer]["connected_ms"], "mallory connects")
        yield peer, one, mid


async def test_datagrams_from_an_address_that_passed_a_check(room_server: RoomServer) -> None:
    """The address is good, so what comes from it reaches DTLS, SRTP and SRTCP: of a peer that has not said hello yet, of
    one that begins with nonsense, and of one that is connected, in whose name somebody else sends."""
    chance = random.Random(SEED)
    engine = LoadEngine()
    try:
        async with (
            calm_call(room_server) as call,
            client(room_server, "early") as early,
            client(room_server, "greeter") as greeter,
            connected(room_server, engine) as (peer, one, _mid),
        ):
            ledger = Ledger(room_server)
            answers = [who.answer_message.sdp for who in (early, greeter, one)]
            kinds = [[_rtp, _rtcp], [_dtls, _client_hello], [_rtp, _rtcp, _dtls, _client_hello]]
            attackers = [Attacker(address_of(sdp)) for sdp in answers]
            checks = [(f"{of_answer(sdp, 'ice-ufrag')}:x", of_answer(sdp, "ice-pwd")) for sdp in answers]

            async def attack() -> None:
                for attacker, (username, password) in zip(attackers, checks, strict=True):
                    await attacker.send(binding_request(username, password, nominate=False))
                await ledger.until("stun_in", 1)
                for _ in range(DATAGRAMS):
                    for attacker, makers in zip(attackers, kinds, strict=True):
                        await attacker.send(chance.choice(makers)(chance))

            try:
                await flat(call, attack)
                dropped = ledger.changes()
                assert dropped.get("dropped_early", 0) > 100 and dropped.get("dropped_auth", 0) > 100, dropped
                assert room_server.manager.media.metrics()["panics"] == 0
                # Who has the keys is not thrown out.
                before = engine.stats()["peers"][peer]
                assert before["failure"] is None, before
                engine.publish_audio(peer, engine.new_ssrc(), 111, [b"\xf8\xff\xfe"], mid=(4, _mid))
                await ledger.until("rtp_in", 20)
            finally:
                for attacker in attackers:
                    attacker.close()
    finally:
        engine.close()


def _dtls(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.randrange(300))
    length = chance.choice([len(body), 0, 0xFFFF, len(body) + 1])
    return bytes([chance.choice([20, 21, 22, 23, 63]), 0xFE, chance.choice([0xFD, 0xFF, 0])]) + bytes(8) + length.to_bytes(2, "big") + body  # fmt: skip


def _client_hello(chance: random.Random) -> bytes:
    body = b"\xfe\xfd" + chance.randbytes(32) + chance.randbytes(chance.randrange(100))
    size = len(body).to_bytes(3, "big")
    handshake = b"\x01" + size + chance.randbytes(2) + b"\0\0\0" + size + body
    return b"\x16\xfe\xfd" + bytes(8) + len(handshake).to_bytes(2, "big") + handshake


def _rtp(chance: random.Random) -> bytes:
    return bytes([chance.choice([0x80, 0x90, 0xBF]), chance.choice([96, 111, 63])]) + chance.randbytes(
        chance.randrange(1200)
    )


def _rtcp(chance: random.Random) -> bytes:
    return bytes([chance.choice([0x80, 0x81, 0x9F]), chance.choice([200, 201, 205, 206, 207])]) + chance.randbytes(
        chance.randrange(300)
    )


async def test_malformed_media_inside_a_session(room_server: RoomServer) -> None:
    """Mallory has keys, and sends streams nobody announced, payload types nobody agreed on, and payloads that are none."""
    chance = random.Random(SEED)
    engine = LoadEngine()
    try:
        async with calm_call(room_server) as call, connected(room_server, engine) as (peer, one, mid):
            ledger = Ledger(room_server)
            video = one.offer.publish("video", "cam")
            await one.add_track("cam", "video")
            await one.negotiate()
            shapes: list[tuple[int, tuple[int, str] | None]] = [
                (111, (4, mid)),  # Opus that is none
                (63, (4, mid)),  # RED that is none
                (96, (4, video)),  # VP8 that is none
                (98, (4, video)),  # VP9
                (103, (4, video)),  # H264
                (45, (4, video)),  # AV1
                (97, (4, video)),  # retransmissions of nothing
                (77, (4, mid)),  # never negotiated
                (111, (4, "nobody")),
                (111, None),
                (96, (10, "q")),
            ]

            async def attack() -> None:
                ssrcs = []
                for pt, extension in shapes:
                    payloads = [chance.randbytes(chance.randrange(1, 400)) for _ in range(20)]
                    ssrcs.append(engine.new_ssrc())
                    engine.publish_audio(peer, ssrcs[-1], pt, payloads, mid=extension, level_id=1, twcc_id=3)
                await ledger.until("packets_in", 300)
                for ssrc in ssrcs:
                    engine.unpublish(peer, ssrc)

            await flat(call, attack)
            counted = ledger.changes()
            assert counted.get("dropped_ssrc", 0) > 20 and counted.get("rtp_in", 0) > 200, counted
            assert room_server.manager.media.metrics()["panics"] == 0
            assert engine.stats()["peers"][peer]["failure"] is None
            assert not one.ws.closed
    finally:
        engine.close()
