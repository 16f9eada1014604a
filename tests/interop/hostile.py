"""What the tests of hostile input attack with, and how they know that nobody else noticed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from greenroom.server.app import RoomServer
from tests.unit.server_client import OfferText

from .rtc_pairs import OFFICIAL, Member, dominant_frequency, feeding, in_room

LOUD = 1000


def binding_request(username: str, password: str, *, nominate: bool = True, chance: Any = None) -> bytes:
    """A STUN connectivity check (RFC 8445 7.2.2) with MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 14.5, 14.7)."""
    name = username.encode()
    body = _attribute(0x0006, name) + _attribute(0x0024, b"\x6e\x00\x00\xff") + _attribute(0x802A, b"12345678")
    if nominate:
        body += _attribute(0x0025, b"")
    transaction = chance.randbytes(12) if chance else os.urandom(12)

    def header(length: int) -> bytes:
        return b"\x00\x01" + length.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + transaction

    mac = hmac.new(password.encode(), header(len(body) + 24) + body, hashlib.sha1).digest()
    body += _attribute(0x0008, mac)
    crc = zlib.crc32(header(len(body) + 8) + body) ^ 0x5354554E
    body += _attribute(0x8028, crc.to_bytes(4, "big"))
    return header(len(body)) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


class KeyedOffer(OfferText):
    """An offer with the credentials of a real transport."""

    def __init__(self, ufrag: str, pwd: str, fingerprint: str) -> None:
        super().__init__()
        self._own = (ufrag, pwd, fingerprint)

    def __str__(self) -> str:
        text = super().__str__()
        ufrag, pwd, fingerprint = self._own
        text = re.sub(r"a=ice-ufrag:\S+", f"a=ice-ufrag:{ufrag}", text)
        text = re.sub(r"a=ice-pwd:\S+", f"a=ice-pwd:{pwd}", text)
        return re.sub(r"a=fingerprint:[^\r]+", f"a=fingerprint:{fingerprint}", text)


def plain_offer() -> KeyedOffer:
    """An offer without a transport behind it."""
    return KeyedOffer("abcd", "0123456789012345678901234567", "sha-256 " + ":".join(["AB"] * 32))


def of_answer(sdp: str, name: str) -> str:
    found = re.search(rf"a={name}:([^\r\n]+)", sdp)
    assert found, f"no {name} in the answer"
    return found[1]


def address_of(sdp: str) -> tuple[str, int]:
    """The first host candidate."""
    words = of_answer(sdp, "candidate").split()
    return words[4], int(words[5])


class Attacker:
    """A UDP socket on loopback that sends what it likes and reads nothing."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._target = target
        self._sent = 0

    async def send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._target)
        except BlockingIOError:
            pass  # the socket's buffer is full: a datagram less
        self._sent += 1
        if self._sent % 50 == 0:
            # The server and the calm call live in this process too.
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self._socket.close()


class CalmCall:
    """Two official clients in a room of their own. `bob` hears a tone from `alice` all the time."""

    def __init__(self, alice: Member, bob: Member) -> None:
        self.alice, self.bob = alice, bob
        self._recent: list[Any] = []
        self._heard = asyncio.Event()

    async def hear(self, track: Any) -> None:
        stream = self.bob.sdk.AudioStream(track, sample_rate=48000, num_channels=1)
        try:
            async for event in stream:
                block = np.frombuffer(event.frame.data, np.int16)
                if np.abs(block).max() > LOUD:
                    self._recent.append(block)
                    self._heard.set()
        finally:
            await stream.aclose()

    async def undisturbed(self, seconds: float = 0.5) -> None:
        """From now on the tone is heard for so long, at its pitch, and no client had to connect again."""
        self._recent.clear()
        async with asyncio.timeout(15):
            while sum(map(len, self._recent)) < 48000 * seconds:
                self._heard.clear()
                await self._heard.wait()
        assert abs(dominant_frequency(np.concatenate(self._recent)[:, None]) - 440) < 4
        for member in (self.alice, self.bob):
            assert not member.events("disconnected") and not member.events("reconnecting")


@asynccontextmanager
async def calm_call(server: RoomServer) -> AsyncIterator[CalmCall]:
    async with in_room(server, OFFICIAL, OFFICIAL) as (alice, bob):
        publication, tone = await alice.publish_tone(440, 120)
        async with feeding(tone):
            track, *_ = await bob.seen("track_subscribed", lambda _t, p, _p: p.sid == publication.sid)
            call = CalmCall(alice, bob)
            async with feeding(asyncio.create_task(call.hear(track))):
                await call.undisturbed()
                yield call


def resident_mb() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Ledger:
    """The media core's counters since the last look."""

    def __init__(self, server: RoomServer) -> None:
        self._server = server
        self._last = server.manager.media.metrics()

    def changes(self) -> dict[str, int]:
        now = self._server.manager.media.metrics()
        changed = {name: value - self._last.get(name, 0) for name, value in now.items()}
        self._last = now
        return {name: change for name, change in changed.items() if change}

    async def until(self, name: str, count: int) -> None:
        """`name` grew by `count` since the last look."""
        async with asyncio.timeout(10):
            # Counters tell nobody when they change.
            while self._server.manager.media.metrics().get(name, 0) - self._last.get(name, 0) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
