"""A small client of the LiveKit signalling protocol for the load generator: `/rtc`, two peer connections.

The dual mode is spoken by every server: a client that only listens answers the server's offers, and one that publishes
offers on a second connection. SDP is written here; ICE, DTLS and media are the native `LoadEngine`'s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlencode

import aiohttp
from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc as proto

from greenroom._native import LoadEngine

from . import sdp

__all__ = ["LoadClient", "SignallingError"]

logger = logging.getLogger("bench")

JOIN_TIMEOUT = 10.0
CONNECT_TIMEOUT = 20.0
REMB_BPS = 100_000_000
"""The bandwidth that receivers claim: loopback never asks for less than the publisher sends."""


class SignallingError(Exception):
    """The server refused something, or did not answer in time."""


class _Connection:
    """One peer connection: the native peer and what is known of the other side."""

    def __init__(self, engine: LoadEngine) -> None:
        self.engine = engine
        self.peer, ufrag, pwd = engine.add_peer()
        self.local = sdp.Local(ufrag, pwd, engine.fingerprint)
        self.version = 1
        self.connected = False
        self._address: str | None = None
        self._remote: sdp.Remote | None = None
        self._offered = False

    def remote(self, description: sdp.Description, *, offered: bool) -> None:
        """The other side's description; `offered`: it is the answer to our offer."""
        self._remote, self._offered = sdp.remote(description), offered
        for candidate in description.candidates():
            self.candidate(candidate)
        self._connect()

    def candidate(self, candidate: str) -> None:
        """Take the first usable address; the peers here need no second one."""
        if self._address is None and (address := sdp.host_address(candidate)):
            self._address = address
            self._connect()

    def _connect(self) -> None:
        if self.connected or self._remote is None or self._address is None:
            return
        self.connected = True
        remote = self._remote
        # RFC 8445 6.1.1: a full agent controls a lite one; between full agents the offerer controls. Our answers say
        # `active`; an answer that says `active` makes us the DTLS server.
        self.engine.connect(
            self.peer,
            self._address,
            remote.ufrag,
            remote.pwd,
            remote.fingerprint,
            controlling=remote.lite or self._offered,
            dtls_client=not self._offered or remote.setup == "passive",
        )

    def close(self) -> None:
        self.engine.remove(self.peer)


class LoadClient:
    """One participant. `await join()`, then perhaps `publish_*`, then `await close()`."""

    def __init__(
        self, http: aiohttp.ClientSession, engine: LoadEngine, url: str, token: str, *, subscribe: bool
    ) -> None:
        self._http, self._engine, self._url, self._token, self._subscribe = http, engine, url, token, subscribe
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._subscriber: _Connection | None = None
        self._publisher: _Connection | None = None
        self._early: list[tuple[int, str]] = []
        self._tracks: list[tuple[str, str, int]] = []
        self._answer: asyncio.Future[sdp.Description] | None = None
        self._published: dict[str, asyncio.Future[models.TrackInfo]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.left: str = ""
        """Why the server ended the session, if it did."""
        self.participants: dict[str, models.ParticipantInfo] = {}
        """The others, as the server last told, by identity."""

    @property
    def peers(self) -> list[int]:
        """Ids of the native peers."""
        return [connection.peer for connection in (self._subscriber, self._publisher) if connection]

    @property
    def subscriber_peer(self) -> int | None:
        return self._subscriber.peer if self._subscriber else None

    async def join(self) -> proto.JoinResponse:
        """Open the socket and wait for the join response. SignallingError says why not."""
        query = {
            "sdk": "python",
            "version": "1.2.0",
            "protocol": "17",
            "client_protocol": "1",
            "os": "Linux",
            "auto_subscribe": "1" if self._subscribe else "0",
            "adaptive_stream": "0",
        }
        url = self._url.replace("http", "ws", 1).rstrip("/") + "/rtc?" + urlencode(query)
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with asyncio.timeout(JOIN_TIMEOUT):
                self._socket = await self._http.ws_connect(url, headers=headers, max_msg_size=1 << 24)
                first = await self._socket.receive_bytes()
        except (TimeoutError, aiohttp.ClientError, OSError, TypeError) as error:
            raise SignallingError(f"cannot join {self._url}: {error or type(error).__name__}") from error
        response = proto.SignalResponse.FromString(first)
        if response.WhichOneof("message") != "join":
            raise SignallingError(f"the server answered {response.WhichOneof('message')} to a join")
        join = response.join
        self.participants = {other.identity: other for other in join.other_participants}
        self._tasks = [
            asyncio.create_task(self._read(), name="load signalling"),
            asyncio.create_task(self._ping(join.ping_interval or 5), name="load ping"),
        ]
        return join

    async def publish_audio(self, payloads: list[bytes], *, level: int = 30, stamp: bool = False) -> int:
        """Publish Opus, one payload every 20 ms. Returns the SSRC."""
        ssrc, section, number = await self._publish("audio", models.TrackType.AUDIO, models.TrackSource.MICROPHONE)
        accepted = sdp.accepted_extensions(section)
        self._engine.publish_audio(
            self._publisher_peer(),
            ssrc,
            sdp.OPUS,
            payloads,
            level=level,
            stamp=stamp,
            mid=_mid(accepted, number),
            level_id=accepted.get(sdp.AUDIO_LEVEL),
            twcc_id=accepted.get(sdp.TRANSPORT_CC),
        )
        return ssrc

    async def publish_video(
        self,
        *,
        bitrate: int,
        frame_rate: int,
        packet_len: int,
        pace: Literal["burst", "runs", "uplink"],
        uplink_bps: int,
    ) -> int:
        """Publish VP8-shaped frames, see `LoadEngine.publish_video`. Returns the SSRC."""
        ssrc, section, number = await self._publish("video", models.TrackType.VIDEO, models.TrackSource.CAMERA)
        accepted = sdp.accepted_extensions(section)
        self._engine.publish_video(
            self._publisher_peer(),
            ssrc,
            sdp.VP8,
            bitrate=bitrate,
            frame_rate=frame_rate,
            packet_len=packet_len,
            pace=pace,
            uplink_bps=uplink_bps,
            mid=_mid(accepted, number),
            twcc_id=accepted.get(sdp.TRANSPORT_CC),
        )
        return ssrc

    def _publisher_peer(self) -> int:
        assert self._publisher is not None
        return self._publisher.peer

    async def _publish(self, kind: str, track_type: int, source: int) -> tuple[int, sdp.Section, int]:
        loop = asyncio.get_running_loop()
        if self._publisher is None:
            self._publisher = _Connection(self._engine)
        cid = f"load-{kind}-{len(self._tracks)}"
        ssrc = self._engine.new_ssrc()
        request = proto.AddTrackRequest(cid=cid, name=cid, type=track_type, source=source)
        if kind == "video":
            request.width, request.height = 640, 360
            layer = models.VideoLayer(quality=models.VideoQuality.HIGH, width=640, height=360, bitrate=2_000_000)
            request.layers.append(layer)
            request.simulcast_codecs.append(proto.SimulcastCodec(codec="vp8", cid=cid, layers=[layer]))
        self._published[cid] = loop.create_future()
        await self._send(proto.SignalRequest(add_track=request))
        async with _deadline(f"no track_published for {cid}"):
            await self._published[cid]
        del self._published[cid]
        self._tracks.append((kind, cid, ssrc))
        self._answer = loop.create_future()
        self._publisher.version += 1
        text = sdp.offer(self._publisher.local, self._tracks, self._publisher.version)
        offer = proto.SessionDescription(type="offer", sdp=text, id=self._publisher.version)
        await self._send(proto.SignalRequest(offer=offer))
        async with _deadline("no answer to an offer"):
            answer = await self._answer
        self._publisher.remote(answer, offered=True)
        self._use_candidates()
        number = len(self._tracks)
        section = next((section for section in answer.sections if section.mid == str(number)), None)
        if section is None or section.port == 0:
            raise SignallingError(f"the server did not accept the {kind} section")
        return ssrc, section, number

    async def _send(self, request: proto.SignalRequest) -> None:
        if self._socket is None or self._socket.closed:
            raise SignallingError(f"the signalling connection is closed {self.left}".rstrip())
        await self._socket.send_bytes(request.SerializeToString())

    async def _read(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            try:
                response = proto.SignalResponse.FromString(message.data)
            except DecodeError:
                logger.warning("a signalling message of %d bytes cannot be read", len(message.data))
                continue
            await self._handle(response)
        self.left = self.left or "socket closed"

    async def _handle(self, response: proto.SignalResponse) -> None:
        kind = response.WhichOneof("message")
        logger.debug("the server sent %s", kind)
        if kind == "offer":
            await self._handle_offer(response.offer)
        elif kind == "answer":
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(sdp.Description.parse(response.answer.sdp))
        elif kind == "trickle":
            init = json.loads(response.trickle.candidateInit or "{}")
            self._early.append((response.trickle.target, init.get("candidate", "")))
            self._use_candidates()
        elif kind == "track_published":
            future = self._published.get(response.track_published.cid)
            if future is not None and not future.done():
                future.set_result(response.track_published.track)
        elif kind == "update":
            for participant in response.update.participants:
                self.participants[participant.identity] = participant
        elif kind == "leave":
            self.left = models.DisconnectReason.Name(response.leave.reason)

    async def _handle_offer(self, message: proto.SessionDescription) -> None:
        offer = sdp.Description.parse(message.sdp)
        if self._subscriber is None:
            self._subscriber = _Connection(self._engine)
        connection = self._subscriber
        wanted = sdp.reception(offer)
        self._engine.set_reception(
            connection.peer,
            wanted.codecs,
            repairs=wanted.repairs,
            twcc_id=wanted.twcc_id,
            remb_bps=REMB_BPS if wanted.remb else None,
        )
        connection.version += 1
        text = sdp.answer(offer, connection.local, connection.version)
        answer = proto.SessionDescription(type="answer", sdp=text, id=message.id)
        await self._send(proto.SignalRequest(answer=answer))
        connection.remote(offer, offered=False)
        self._use_candidates()

    def _use_candidates(self) -> None:
        """Candidates may come before the description that they belong to."""
        waiting, self._early = self._early, []
        for target, candidate in waiting:
            subscriber = target == proto.SignalTarget.SUBSCRIBER
            connection = self._subscriber if subscriber else self._publisher
            if connection is None:
                self._early.append((target, candidate))
            else:
                connection.candidate(candidate)

    async def _ping(self, interval: float) -> None:
        while True:
            try:
                await self._send(proto.SignalRequest(ping_req=proto.Ping(timestamp=int(time.time() * 1000), rtt=1)))
            except (SignallingError, ConnectionError):
                return
            await asyncio.sleep(interval)

    async def close(self) -> None:
        """Leave. Twice is fine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        socket, self._socket = self._socket, None
        if socket is not None and not socket.closed:
            leave = proto.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED)
            try:
                async with asyncio.timeout(2):
                    await socket.send_bytes(proto.SignalRequest(leave=leave).SerializeToString())
                    await socket.close()
            except (TimeoutError, ConnectionError) as error:
                logger.debug("a client did not leave in order: %s", error)
        for connection in (self._subscriber, self._publisher):
            if connection is not None:
                connection.close()
        self._subscriber = self._publisher = None


def _mid(accepted: dict[str, int], number: int) -> tuple[int, str] | None:
    return (accepted[sdp.MID], str(number)) if sdp.MID in accepted else None


@asynccontextmanager
async def _deadline(what: str) -> AsyncIterator[None]:
    """`asyncio.timeout` that says what was waited for."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            yield
    except TimeoutError:
        raise SignallingError(f"{what} within {CONNECT_TIMEOUT:g} s") from None
