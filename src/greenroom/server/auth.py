"""Who is calling: reads the access token of an HTTP request and answers with its claims, or with the documented 401."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from aiohttp import web

from greenroom.api.access_token import AccessToken, decode_token
from greenroom.api.grants import Claims, VideoGrants
from greenroom.api.packed import pack

__all__ = ["PERMISSION_DENIED", "Auth", "AuthError", "Authenticator"]

PERMISSION_DENIED = "permissions denied"
PACKED_FROM = 2048
"""Characters of metadata, attributes and room configuration from which a renewed token carries them packed: what proxies and
browsers take of one line without being asked is a few kB."""
MIN_REFRESH = datetime.timedelta(minutes=10)


class AuthError(Exception):
    """The request may not do this. `str(error)` is the body of the answer, `status` its HTTP status."""

    def __init__(self, text: str = PERMISSION_DENIED, status: int = 401) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Auth:
    """A verified token."""

    claims: Claims

    @property
    def api_key(self) -> str:
        """The key that signed it; tokens made on behalf of the caller are signed by the same."""
        return self.claims.issuer

    @property
    def video(self) -> VideoGrants:
        return self.claims.video or VideoGrants()

    def require(self, *grants: str) -> None:
        """Each of these `VideoGrants` fields must be set. Raises AuthError."""
        if not all(getattr(self.video, grant) for grant in grants):
            raise AuthError()

    def require_room_admin(self, room: str) -> None:
        if not (self.video.room_admin and self.video.room == room):
            raise AuthError()


class Authenticator:
    """Verifies tokens against the configured API keys (`{key: secret}`) and signs new ones."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = dict(keys)

    def verify(self, token: str) -> Auth:
        """Raises AuthError with the text the caller should see."""
        try:
            issuer = jwt.decode(token, algorithms=["HS256"], options={"verify_signature": False}).get("iss")
        # RecursionError: JSON nested as deep as a header is long
        except (jwt.InvalidTokenError, RecursionError) as error:
            raise AuthError("invalid authorization token") from error
        secret = self._keys.get(issuer) if isinstance(issuer, str) else None
        if not secret:
            raise AuthError("invalid API key")
        try:
            claims, _ = decode_token(token, issuer, secret)
        except jwt.ExpiredSignatureError as error:
            raise AuthError("invalid token: token is expired") from error
        except jwt.ImmatureSignatureError as error:
            raise AuthError("invalid token: token is not valid yet") from error
        except jwt.InvalidSignatureError as error:
            raise AuthError("invalid token: signature does not match") from error
        except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
            raise AuthError(f"invalid token: {error}") from error
        return Auth(claims)

    def authenticate(self, request: web.BaseRequest) -> Auth | None:
        """The caller, from `Authorization: Bearer`, else query `access_token`. None without a token.

        Raises AuthError when a token is there and bad.
        """
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise AuthError("invalid authorization header. Must start with Bearer ")
            return self.verify(token.strip())
        token = request.query.get("access_token", "")
        return self.verify(token) if token else None

    def require(self, request: web.BaseRequest) -> Auth:
        """As `authenticate`; no token is an AuthError too."""
        auth = self.authenticate(request)
        if auth is None:
            raise AuthError()
        return auth

    def sign(self, claims: Claims, ttl: datetime.timedelta) -> str:
        """A token with these claims, signed by the key `claims.issuer`. KeyError when that is not configured."""
        builder = AccessToken(claims.issuer, self._keys[claims.issuer]).with_identity(claims.identity).with_ttl(ttl)
        builder.claims = claims
        return builder.to_jwt()

    def refresh(self, claims: Claims) -> str:
        """A token for a participant that stays: valid as long as the old one, but for 10 min at least."""
        own = len(claims.metadata) + sum(len(key) + len(value) for key, value in (claims.attributes or {}).items())
        if own + (claims.room_config.ByteSize() if claims.room_config is not None else 0) > PACKED_FROM:
            claims = pack(claims)
        left = datetime.timedelta(seconds=claims.expires - time.time())
        return self.sign(claims, max(left, MIN_REFRESH))

    @property
    def default_key(self) -> str:
        """The key that signs what nobody in particular asked for."""
        return next(iter(self._keys))

    def secret(self, api_key: str) -> str:
        return self._keys[api_key]
