"""The connect request: query parameters of `/rtc`, or the `join_request` of `/rtc/v1`."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc

from .bounds import MAX_PUBLICATIONS
from .sdp import SdpError, SessionDescription

if TYPE_CHECKING:
    from greenroom.api.grants import Claims

__all__ = ["BadJoin", "Join", "joined_attributes", "parse_join"]

MAX_JOIN_REQUEST = 1024 * 1024
"""Bytes of a decompressed `JoinRequest`."""


class BadJoin(ValueError):
    """The request cannot be understood (HTTP 400)."""


@dataclass(slots=True)
class Join:
    """What a client asks for when it connects."""

    single: bool
    """One peer connection for both directions."""
    room: str = ""
    """As asked for in the query; the token's room wins."""
    client: models.ClientInfo = field(default_factory=models.ClientInfo)
    auto_subscribe: bool = True
    auto_subscribe_data_track: bool = False
    adaptive_stream: bool = False
    publish_only: str = ""
    """Name of a second, publishing session of the same identity."""
    reconnect: bool = False
    participant_sid: str = ""
    metadata: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    add_tracks: list[rtc.AddTrackRequest] = field(default_factory=list)
    offer: rtc.SessionDescription | None = None
    description: SessionDescription | SdpError | None = None
    """`offer` once it was read, or why it cannot be."""
    sync_state: rtc.SyncState | None = None
    refused_tracks: list[tuple[rtc.AddTrackRequest, str]] = field(default_factory=list)
    """Of `add_tracks` those that the application's rules refused, which are there no more, and why."""


def parse_join(query: Mapping[str, str], user_agent: str, *, single: bool) -> Join:
    """Raises BadJoin. `single`: the path is `/rtc/v1`."""
    wrapped = query.get("join_request")
    if wrapped:
        join = _from_request(wrapped)
    elif single:
        raise BadJoin("join_request is required")
    else:
        join = _from_query(query)
    join.room = query.get("room", "")
    join.participant_sid = join.participant_sid or query.get("sid", "")
    _fill_from_user_agent(join.client, user_agent)
    return join


def joined_attributes(claims: Claims, join: Join) -> dict[str, str]:
    """What a participant begins with: the token's, then its own. An empty value of its own takes none away."""
    return {**(claims.attributes or {}), **{key: value for key, value in join.attributes.items() if value}}


def _from_request(text: str) -> Join:
    try:
        wrapped = rtc.WrappedJoinRequest.FromString(_base64(text))
        raw = wrapped.join_request
        if wrapped.compression == rtc.WrappedJoinRequest.Compression.GZIP:
            raw = _gunzip(raw)
        if len(raw) > MAX_JOIN_REQUEST:
            raise BadJoin("join_request is too long")
        request = rtc.JoinRequest.FromString(raw)
    except (DecodeError, binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, BadJoin):
            raise
        raise BadJoin("failed to parse join_request") from error
    if len(request.add_track_requests) > MAX_PUBLICATIONS:
        raise BadJoin(f"more than {MAX_PUBLICATIONS} add_track_requests")
    settings = request.connection_settings
    return Join(
        single=True,
        client=request.client_info,
        auto_subscribe=settings.auto_subscribe,
        auto_subscribe_data_track=settings.auto_subscribe_data_track,
        adaptive_stream=settings.adaptive_stream,
        reconnect=request.reconnect,
        participant_sid=request.participant_sid,
        metadata=request.metadata,
        attributes=dict(request.participant_attributes),
        add_tracks=list(request.add_track_requests),
        offer=request.publisher_offer if request.publisher_offer.sdp else None,
        sync_state=request.sync_state if request.HasField("sync_state") else None,
    )


def _from_query(query: Mapping[str, str]) -> Join:
    attributes: dict[str, str] = {}
    if encoded := query.get("attributes"):
        try:
            decoded = json.loads(_base64(encoded))
            attributes = {str(key): str(value) for key, value in decoded.items()}
        except (ValueError, AttributeError, binascii.Error) as error:
            raise BadJoin("cannot decode attributes") from error
    return Join(
        single=False,
        client=_client_info(query),
        auto_subscribe=_boolean(query, "auto_subscribe", True),
        auto_subscribe_data_track=_boolean(query, "auto_subscribe_data_track", False),
        adaptive_stream=_boolean(query, "adaptive_stream", False),
        publish_only=query.get("publish", ""),
        reconnect=_boolean(query, "reconnect", False),
        participant_sid=query.get("sid", ""),
        attributes=attributes,
    )


def _client_info(query: Mapping[str, str]) -> models.ClientInfo:
    client = models.ClientInfo(
        version=query.get("version", ""),
        protocol=_integer(query, "protocol"),
        client_protocol=_integer(query, "client_protocol"),
        os=query.get("os", ""),
        os_version=query.get("os_version", ""),
        browser=query.get("browser", ""),
        browser_version=query.get("browser_version", ""),
        device_model=query.get("device_model", ""),
        network=query.get("network", ""),
    )
    sdk = query.get("sdk", "").upper()
    sdks = models.ClientInfo.SDK
    if sdk in sdks.keys():
        client.sdk = cast("models.ClientInfo.SDK", sdks.Value(sdk))
    capabilities = models.ClientInfo.Capability
    for name in query.get("capabilities", "").split(","):
        if name.strip() in capabilities.keys():
            client.capabilities.append(cast("models.ClientInfo.Capability", capabilities.Value(name.strip())))
    return client


def _fill_from_user_agent(client: models.ClientInfo, user_agent: str) -> None:
    """Browsers do not say what they are in the request itself."""
    if not client.browser:
        for mark, name in (("Firefox/", "firefox"), ("Edg/", "edge"), ("Chrome/", "chrome"), ("Safari/", "safari")):
            if mark in user_agent:
                client.browser = name
                version = user_agent.partition("Version/" if name == "safari" else mark)[2]
                client.browser_version = version.split(" ")[0]
                break
    if not client.os:
        for mark, name in (("Android", "android"), ("iPhone", "ios"), ("Windows", "windows"), ("Mac OS", "mac os x"),
                           ("Linux", "linux")):  # fmt: skip
            if mark in user_agent:
                client.os = name
                break


def _base64(text: str) -> bytes:
    """URL-safe or standard alphabet, padded or not."""
    text = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _gunzip(raw: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    out = decompressor.decompress(raw, MAX_JOIN_REQUEST + 1)
    if len(out) > MAX_JOIN_REQUEST:
        raise BadJoin("join_request is too long")
    if not decompressor.eof:
        raise BadJoin("join_request is cut short")
    return out


def _boolean(query: Mapping[str, str], name: str, default: bool) -> bool:
    value = query.get(name)
    return default if value is None else value in ("1", "true")


def _integer(query: Mapping[str, str], name: str) -> int:
    value = query.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
