"""Signing and verifying access tokens: HS256 JWTs whose issuer is the API key (LiveKit's token format)."""

from __future__ import annotations

import datetime
import json
import os
import time
from typing import TYPE_CHECKING, Any, Literal

import jwt
from jwt.algorithms import HMACAlgorithm

from .grants import (
    AgentGrants,
    Claims,
    InferenceGrants,
    ObservabilityGrants,
    SIPGrants,
    VideoGrants,
    decode_claims,
)

if TYPE_CHECKING:
    from livekit.protocol.room import RoomConfiguration

__all__ = ["DEFAULT_LEEWAY", "DEFAULT_TTL", "AccessToken", "TokenVerifier"]

DEFAULT_TTL = datetime.timedelta(hours=6)
DEFAULT_LEEWAY = datetime.timedelta(minutes=1)

# The audience and friends are not part of the format; a token that carries them is still good. The signature was checked
# before; what is left on must be named, because PyJWT switches all checks off with that one.
_DECODE_OPTIONS: Any = (
    {"require": ["exp"], "verify_signature": False}
    | dict.fromkeys(("verify_exp", "verify_nbf", "verify_iss"), True)
    | dict.fromkeys(("verify_aud", "verify_iat", "verify_sub", "verify_jti"), False)
)


class _AnyLength(HMACAlgorithm):
    """HS256 without PyJWT's warning about short secrets. The development secret has six bytes everywhere, and how long others
    must be is the server's rule, said once at its start."""

    def check_key_length(self, key: bytes) -> str | None:
        return None


_jws = jwt.PyJWS(algorithms=[])
_jws.register_algorithm("HS256", _AnyLength(HMACAlgorithm.SHA256))


class AccessToken:
    """Builds a token step by step; every `with_*` returns the same object.

    Key and secret default to LIVEKIT_API_KEY and LIVEKIT_API_SECRET; ValueError when they are nowhere.
    """

    ParticipantKind = Literal["standard", "egress", "ingress", "sip", "agent", "connector", "bridge"]

    def __init__(self, api_key: str | None = None, api_secret: str | None = None) -> None:
        api_key = api_key or os.environ.get("LIVEKIT_API_KEY")
        api_secret = api_secret or os.environ.get("LIVEKIT_API_SECRET")
        if not api_key or not api_secret:
            raise ValueError("api_key and api_secret must be set (or LIVEKIT_API_KEY and LIVEKIT_API_SECRET)")
        self.api_key = api_key
        self.api_secret = api_secret
        self.claims = Claims()
        self.identity = ""
        self.ttl = DEFAULT_TTL

    def with_ttl(self, ttl: datetime.timedelta) -> AccessToken:
        self.ttl = ttl
        return self

    def with_grants(self, grants: VideoGrants) -> AccessToken:
        self.claims.video = grants
        return self

    def with_sip_grants(self, grants: SIPGrants) -> AccessToken:
        self.claims.sip = grants
        return self

    def with_observability_grants(self, grants: ObservabilityGrants) -> AccessToken:
        self.claims.observability = grants
        return self

    def with_inference_grants(self, grants: InferenceGrants) -> AccessToken:
        self.claims.inference = grants
        return self

    def with_agent_grants(self, grants: AgentGrants) -> AccessToken:
        self.claims.agent = grants
        return self

    def with_identity(self, identity: str) -> AccessToken:
        self.identity = identity
        return self

    def with_kind(self, kind: ParticipantKind) -> AccessToken:
        self.claims.kind = kind
        return self

    def with_name(self, name: str) -> AccessToken:
        self.claims.name = name
        return self

    def with_metadata(self, metadata: str) -> AccessToken:
        self.claims.metadata = metadata
        return self

    def with_attributes(self, attributes: dict[str, str]) -> AccessToken:
        self.claims.attributes = attributes
        return self

    def with_sha256(self, sha256: str) -> AccessToken:
        self.claims.sha256 = sha256
        return self

    def with_room_preset(self, preset: str) -> AccessToken:
        self.claims.room_preset = preset
        return self

    def with_room_config(self, config: RoomConfiguration) -> AccessToken:
        self.claims.room_config = config
        return self

    def to_jwt(self) -> str:
        """The signed token. ValueError when it grants joining without naming an identity and a room."""
        video = self.claims.video
        if video and video.room_join and not (self.identity and video.room):
            raise ValueError("identity and room must be set when joining a room")
        now = int(time.time())
        payload: dict[str, Any] = {
            **self.claims.asdict(),
            "iss": self.api_key,
            "sub": self.identity,
            "iat": now,
            "nbf": now,
            "exp": now + int(self.ttl.total_seconds()),
        }
        # Not escaped: what is not ASCII would take three times its size, and a token travels in one line.
        body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
        return _jws.encode(body.encode("utf-8", "surrogatepass"), self.api_secret, algorithm="HS256")


class TokenVerifier:
    """Checks tokens of one API key. Key and secret default as in `AccessToken`."""

    def __init__(
        self,
        api_key: str | None = None,
        api_secret: str | None = None,
        *,
        leeway: datetime.timedelta = DEFAULT_LEEWAY,
    ) -> None:
        self.api_key = api_key or os.environ.get("LIVEKIT_API_KEY")
        self.api_secret = api_secret or os.environ.get("LIVEKIT_API_SECRET")
        self._leeway = leeway

    def verify(self, token: str, *, verify_signature: bool = True) -> Claims:
        """Claims of a good token.

        Raises `jwt.InvalidTokenError` (one of its subclasses) when the signature, the issuer, the times or the type of
        a claim is wrong, ValueError when a key is missing. Without `verify_signature` only the form is checked.
        """
        return decode_token(token, self.api_key, self.api_secret, self._leeway, verify_signature)[0]


def decode_token(
    token: str,
    api_key: str | None,
    api_secret: str | None,
    leeway: datetime.timedelta = DEFAULT_LEEWAY,
    verify_signature: bool = True,
) -> tuple[Claims, dict[str, Any]]:
    """Claims, and the JWT's payload as it stands. Errors as `TokenVerifier.verify`."""
    if verify_signature:
        if not api_key or not api_secret:
            raise ValueError("api_key and api_secret must be set")
        _jws.decode(token, key=api_secret, algorithms=["HS256"])
        payload = jwt.decode(token, issuer=api_key, algorithms=["HS256"], leeway=leeway, options=_DECODE_OPTIONS)
    else:
        payload = jwt.decode(token, algorithms=["HS256"], options={"verify_signature": False})
    try:
        return decode_claims(payload), payload
    except ValueError as error:
        raise jwt.DecodeError(str(error)) from error
