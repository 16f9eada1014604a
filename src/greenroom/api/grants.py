"""What a token allows: the claims of a LiveKit access token as dataclasses.

In the JWT the names are camelCase and unset values are left out; `encode_claims` and `decode_claims` translate. Reading
is strict about types, because a signed token may still come from a careless signer, and lenient about unknown names,
because newer signers add some.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from livekit.protocol.room import RoomConfiguration

__all__ = ["AgentGrants", "Claims", "InferenceGrants", "ObservabilityGrants", "SIPGrants", "VideoGrants"]


@dataclass
class VideoGrants:
    """Claim `video`. `None` means: not in the token."""

    room_create: bool | None = None
    """Create and delete rooms."""
    room_list: bool | None = None
    room_record: bool | None = None
    room_admin: bool | None = None
    """Moderate the room named by `room`."""
    room_join: bool | None = None
    room: str = ""
    destination_room: str | None = None
    """Where participants may be forwarded or moved to."""
    can_publish: bool = True
    can_subscribe: bool = True
    can_publish_data: bool = True
    """In a token without it: the same as `can_publish`."""
    can_publish_sources: list[str] | None = None
    """Of camera, microphone, screen_share, screen_share_audio. Not empty: only these, and none without `can_publish`.
    A name that is none of these allows nothing."""
    can_update_own_metadata: bool | None = None
    ingress_admin: bool | None = None
    hidden: bool | None = None
    """Not shown to other participants."""
    recorder: bool | None = None
    agent: bool | None = None
    """May register as an agent worker."""
    can_manage_agent_session: bool | None = None
    can_subscribe_metrics: bool | None = None


@dataclass
class SIPGrants:
    admin: bool = False
    """Manage trunks and dispatch rules."""
    call: bool = False
    """Make and transfer calls."""


@dataclass
class InferenceGrants:
    perform: bool = False


@dataclass
class ObservabilityGrants:
    write: bool = False


@dataclass
class AgentGrants:
    admin: bool = False


@dataclass
class Claims:
    """All claims of one token. A missing group of grants is `None` while writing; reading always fills them."""

    identity: str = ""
    """JWT `sub`, or `jti` in tokens without it."""
    name: str = ""
    kind: str = ""
    """standard, ingress, egress, sip, agent, connector or bridge. Empty: standard."""
    metadata: str = ""
    video: VideoGrants | None = None
    sip: SIPGrants | None = None
    inference: InferenceGrants | None = None
    observability: ObservabilityGrants | None = None
    agent: AgentGrants | None = None
    attributes: dict[str, str] | None = None
    sha256: str | None = None
    """Standard base64 of the SHA-256 of a webhook's body."""
    room_preset: str | None = None
    room_config: RoomConfiguration | None = None
    kind_details: list[str] = field(default_factory=list)
    packed: str = ""
    """What a server writes in a renewed token instead of long metadata, attributes and room configuration (`api.packed`).
    Reading puts them back in their places."""
    issuer: str = ""
    """JWT `iss`: the API key. Filled by reading."""
    expires: float = 0.0
    """JWT `exp`, unix seconds. Filled by reading."""
    issued: float = 0.0
    """JWT `iat`, else `nbf`, unix seconds; 0 when there is none. Filled by reading."""

    def asdict(self) -> dict[str, Any]:
        """The claims as they stand in the JWT (camelCase; unset ones left out), without the registered ones."""
        return encode_claims(self)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def encode_claims(claims: Claims) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in dataclasses.fields(claims):
        value = getattr(claims, item.name)
        if item.name in ("identity", "issuer", "expires", "issued") or value is None or value == "" or value == []:
            continue
        if item.name == "room_config":
            from google.protobuf.json_format import MessageToDict

            value = MessageToDict(value)
        elif dataclasses.is_dataclass(value):
            grants = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            value = {camel(name): grant for name, grant in grants.items() if grant not in (None, "")}
        out[camel(item.name)] = value
    return out


Group = TypeVar("Group")


@cache
def _types(cls: Any) -> dict[str, tuple[str, type]]:
    """Claim name to (field name, plain type) of a grants dataclass."""
    table = {}
    for name, hint in typing.get_type_hints(cls).items():
        options = [t for t in (typing.get_args(hint) if not isinstance(hint, type) else [hint]) if t is not type(None)]
        base = options[0] if options else hint
        table[camel(name)] = (name, typing.get_origin(base) or base)
    return table


def _group(cls: type[Group], raw: Any, claim: str) -> Group:
    if not isinstance(raw, Mapping):
        raise ValueError(f"claim {claim} is not an object")
    kinds: Any = cls  # of a type variable mypy does not know that classes can be hashed
    known = _types(kinds)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known or value is None:
            continue
        name, kind = known[key]
        if not isinstance(value, kind):
            raise ValueError(f"claim {claim}.{key} is not of type {kind.__name__}")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise ValueError(f"claim {claim}.{key} is not a list of strings")
        values[name] = value
    return cls(**values)


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"claim {key} is not a string")
    return _encodable(value, key)


def _encodable(value: str, key: str) -> str:
    """JSON can name half a character (a lone surrogate), which no message could carry on."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"claim {key} is not Unicode text") from error
    return value


def decode_claims(raw: Mapping[str, Any]) -> Claims:
    """Claims of a decoded JWT. ValueError names a claim of the wrong type."""
    video_raw = raw.get("video") or {}
    video = _group(VideoGrants, video_raw, "video")
    if video_raw.get("canPublishData") is None:
        video.can_publish_data = video.can_publish
    attributes = raw.get("attributes") or {}
    if not isinstance(attributes, Mapping) or not all(isinstance(value, str) for value in attributes.values()):
        raise ValueError("claim attributes is not an object of strings")
    for key, value in attributes.items():
        _encodable(key + value, "attributes")
    details = raw.get("kindDetails") or []
    if not isinstance(details, list) or not all(isinstance(item, str) for item in details):
        raise ValueError("claim kindDetails is not a list of strings")
    claims = Claims(
        identity=_text(raw, "sub") or _text(raw, "jti"),
        name=_text(raw, "name"),
        kind=_text(raw, "kind"),
        metadata=_text(raw, "metadata"),
        video=video,
        sip=_group(SIPGrants, raw.get("sip") or {}, "sip"),
        inference=_group(InferenceGrants, raw.get("inference") or {}, "inference"),
        observability=_group(ObservabilityGrants, raw.get("observability") or {}, "observability"),
        agent=_group(AgentGrants, raw.get("agent") or {}, "agent"),
        attributes=dict(attributes),
        sha256=_text(raw, "sha256"),
        room_preset=_text(raw, "roomPreset") or None,
        kind_details=list(details),
        packed=_text(raw, "packed"),
        issuer=_text(raw, "iss"),
        expires=float(raw.get("exp", 0)),
        issued=next((float(raw[key]) for key in ("iat", "nbf") if isinstance(raw.get(key), int | float)), 0.0),
    )
    config = raw.get("roomConfig")
    if config:
        claims.room_config = _room_config(config)
    if claims.packed:
        from .packed import unpack

        return unpack(claims)
    return claims


def _room_config(raw: Any) -> RoomConfiguration:
    from google.protobuf.json_format import ParseDict, ParseError
    from livekit.protocol.room import RoomConfiguration

    try:
        return ParseDict(raw, RoomConfiguration(), ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise ValueError(f"claim roomConfig: {error}") from error
