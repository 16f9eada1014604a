"""A client of the signalling protocol without media, for tests: what it offers is written here line by line."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from greenroom.server.sdp import SessionDescription
from tests.conftest import token

from .server_fakes import FakeMediaServer

__all__ = ["Client", "OfferText", "client", "wrap"]

WAIT = 5.0

AUDIO = """\
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:0123456789012345678901234567
a=ice-options:trickle
a=fingerprint:sha-256 AA:BB
a=setup:actpass
a=mid:{mid}
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a={direction}
{extra}a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
"""
VIDEO = """\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 117 118 98 99 45 46 119
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:0123456789012345678901234567
a=fingerprint:sha-256 AA:BB
a=setup:actpass
a=mid:{mid}
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
a={direction}
{extra}a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:103 H264/90000
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:104 rtx/90000
a=fmtp:104 apt=103
a=rtpmap:117 H264/90000
a=fmtp:117 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f
a=rtpmap:118 rtx/90000
a=fmtp:118 apt=117
a=rtpmap:98 VP9/90000
a=fmtp:98 profile-id=0
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtpmap:45 AV1/90000
a=rtpmap:46 rtx/90000
a=fmtp:46 apt=45
a=rtpmap:119 ulpfec/90000
"""
APPLICATION = """\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:0123456789012345678901234567
a=fingerprint:sha-256 AA:BB
a=setup:actpass
a=mid:{mid}
a=sctp-port:5000
a=max-message-size:262144
"""


class OfferText:
    """What libwebrtc offers: three sections to receive audio, three for video, data, then what is published."""

    def __init__(self, audios: int = 3, videos: int = 3, *, data_only: bool = False) -> None:
        self.ufrag = "abcd"
        self.sections: list[tuple[str, str, str]] = []
        for kind, count in (("audio", 0 if data_only else audios), ("video", 0 if data_only else videos)):
            for _ in range(count):
                self.add(kind, "recvonly")
        self.sections.append(("application", "", ""))

    def add(self, kind: str, direction: str, extra: str = "") -> str:
        self.sections.append((kind, direction, extra))
        return str(len(self.sections) - 1)

    def publish(self, kind: str, cid: str, rids: str = "") -> str:
        """A new sendonly section; `rids` in the order of the simulcast line, such as "q;h;f". Returns its mid."""
        extra = f"a=msid:- {cid}\n"
        if rids:
            extra += "".join(f"a=rid:{rid} send\n" for rid in rids.split(";")) + f"a=simulcast:send {rids}\n"
        return self.add(kind, "sendonly", extra)

    def set_direction(self, mid: str, direction: str) -> None:
        kind, _, extra = self.sections[int(mid)]
        self.sections[int(mid)] = (kind, direction, extra)

    def __str__(self) -> str:
        bundle = " ".join(str(index) for index in range(len(self.sections)))
        text = f"v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE {bundle}\na=extmap-allow-mixed\n"
        templates = {"audio": AUDIO, "video": VIDEO, "application": APPLICATION}
        for mid, (kind, direction, extra) in enumerate(self.sections):
            text += templates[kind].format(ufrag=self.ufrag, mid=mid, direction=direction, extra=extra)
        return text.replace("\n", "\r\n")


def wrap(request: rtc.JoinRequest, *, compress: bool = True, padding: bool = True) -> str:
    """`join_request` as clients encode it."""
    raw = request.SerializeToString()
    wrapped = rtc.WrappedJoinRequest(
        compression=int(compress), join_request=gzip.compress(raw) if compress else raw
    ).SerializeToString()
    text = base64.b64encode(wrapped).decode().replace("+", "-").replace("/", "_")
    return text if padding else text.rstrip("=")


class Client:
    """A signalling connection: `send` requests, `expect` responses by kind; what came in between is kept in `seen`."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, media: FakeMediaServer, offer: OfferText) -> None:
        self.ws = ws
        self.media = media
        self.offer = offer
        self.seen: list[rtc.SignalResponse] = []
        self.joined = rtc.JoinResponse()
        self.answer: SessionDescription | None = None
        self.answer_message = rtc.SessionDescription()
        self._next_id = 1

    @property
    def sid(self) -> str:
        return self.joined.participant.sid

    async def send(self, **message: Any) -> None:
        await self.ws.send_bytes(rtc.SignalRequest(**message).SerializeToString())

    async def receive(self) -> rtc.SignalResponse:
        async with asyncio.timeout(WAIT):
            message = await self.ws.receive()
        assert message.type == aiohttp.WSMsgType.BINARY, f"socket ended: {message.type.name} {message.data!r}"
        response = rtc.SignalResponse.FromString(message.data)
        self.seen.append(response)
        return response

    async def expect(self, kind: str, condition: Any = None) -> Any:
        """The next response of `kind` (for which `condition` holds)."""
        while True:
            response = await self.receive()
            if response.WhichOneof("message") == kind:
                value = getattr(response, kind)
                if condition is None or condition(value):
                    return value

    async def settle(self) -> list[str]:
        """Everything sent so far was handled. Returns the kinds of the responses that came."""
        start = len(self.seen)
        mark = 424_242 + len(self.seen)
        await self.send(ping_req=rtc.Ping(timestamp=mark))
        await self.expect("pong_resp", lambda pong: pong.last_ping_timestamp == mark)
        return [response.WhichOneof("message") for response in self.seen[start:-1]]

    async def negotiate(self) -> SessionDescription:
        """Offer what `offer` holds now and take the answer."""
        self._next_id += 1
        await self.send(offer=rtc.SessionDescription(type="offer", sdp=str(self.offer), id=self._next_id))
        return await self.take_answer(self._next_id)

    async def take_answer(self, offer_id: int) -> SessionDescription:
        self.answer_message = await self.expect("answer")
        assert self.answer_message.id == offer_id
        self.answer = SessionDescription.parse(self.answer_message.sdp)
        return self.answer

    async def add_track(self, cid: str, kind: str = "audio", **fields: Any) -> models.TrackInfo:
        audio = kind == "audio"
        fields.setdefault("source", models.TrackSource.MICROPHONE if audio else models.TrackSource.CAMERA)
        type_ = models.TrackType.AUDIO if audio else models.TrackType.VIDEO
        await self.send(add_track=rtc.AddTrackRequest(cid=cid, type=type_, **fields))
        published = await self.expect("track_published")
        assert published.cid == cid
        return published.track

    async def publish(self, cid: str, kind: str = "audio", rids: str = "", **fields: Any) -> models.TrackInfo:
        """Request and negotiation, as the SDKs do it."""
        info = await self.add_track(cid, kind, **fields)
        self.offer.publish(kind, cid, rids)
        await self.negotiate()
        return info


@asynccontextmanager
async def client(
    server: RoomServer,
    media: FakeMediaServer,
    identity: str,
    *,
    room: str = "test",
    connected: bool = True,
    dual: bool = False,
    protocol: int = 17,
    jwt: str = "",
    query: dict[str, str] | None = None,
    auto_subscribe: bool = True,
    offer: OfferText | None = None,
    grants: dict[str, Any] | None = None,
    **request: Any,
) -> AsyncIterator[Client]:
    """Join as `identity`. `connected`: let the fake core report the peer connection as up."""
    offer = offer or OfferText(data_only=dual)
    headers = {"Authorization": f"Bearer {jwt or token(identity, room, **(grants or {}))}"}
    if dual:
        path = "/rtc"
        query = {"protocol": str(protocol), "auto_subscribe": str(int(auto_subscribe)), "sdk": "js", **(query or {})}
    else:
        path = "/rtc/v1"
        settings = rtc.ConnectionSettings(auto_subscribe=auto_subscribe, adaptive_stream=request.pop("adaptive", False))
        if "publisher_offer" not in request:
            request["publisher_offer"] = rtc.SessionDescription(type="offer", sdp=str(offer), id=1)
        elif request["publisher_offer"] is None:
            del request["publisher_offer"]
        info = models.ClientInfo(sdk=models.ClientInfo.SDK.JS, version="2.23.0", protocol=protocol, client_protocol=2)
        join = rtc.JoinRequest(client_info=info, connection_settings=settings, **request)
        query = {"join_request": wrap(join), **(query or {})}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.ws_connect(path, params=query, headers=headers, max_msg_size=0) as ws,
    ):
        one = Client(ws, media, offer)
        first = await one.receive()
        if first.WhichOneof("message") == "join":
            one.joined = first.join
            if not dual and join.HasField("publisher_offer"):
                await one.take_answer(join.publisher_offer.id)
            if connected:
                participant = server.manager.rooms[room].participants[identity]
                media.event("connected", participant.primary.number)
                active = models.ParticipantInfo.State.ACTIVE
                await one.expect(
                    "update", lambda u: any(p.sid == one.sid and p.state == active for p in u.participants)
                )
        yield one
