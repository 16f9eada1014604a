"""Who is calling: reads the access token of an HTTP request and answers with its claims, or with the documented 401."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from aiohttp import web

from greenroom.api.access_token import AccessToken, decode_token
from greenroom.api.grants import Claims, VideoGrants

__all__ = ["PERMISSION_DENIED", "Auth", "AuthError", "Authenticator"]

PERMISSION_DENIED = "permissions denied"


class AuthError(Exception):
    """The request may not do this. `str(error)` is the body of the answer, `status` its HTTP status."""

    def __init__(self, text: str = PERMISSION_DENIED, status: int = 401) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Auth:
    """A verified token."""

    api_key: str
    """The key that signed it; tokens made on behalf of the caller are signed by the same."""
    claims: Claims
    expires_at: float
    """Unix time, seconds."""

    @property
    def video(self) -> VideoGrants:
        return self.claims.video or VideoGrants()

    def may_join(self, room: str = "") -> str:
        """The room that this token joins (the token's own, else `room`, the one asked for). Raises AuthError."""
        if not self.video.room_join:
            raise AuthError()
        return self.video.room or room

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
        except jwt.InvalidTokenError as error:
            raise AuthError("invalid authorization token") from error
        secret = self._keys.get(issuer) if isinstance(issuer, str) else None
        if not secret:
            raise AuthError("invalid API key")
        try:
            claims, payload = decode_token(token, issuer, secret)
        except jwt.ExpiredSignatureError as error:
            raise AuthError("invalid token: token is expired") from error
        except jwt.ImmatureSignatureError as error:
            raise AuthError("invalid token: token is not valid yet") from error
        except jwt.InvalidSignatureError as error:
            raise AuthError("invalid token: signature does not match") from error
        except (jwt.InvalidTokenError, ValueError) as error:
            raise AuthError(f"invalid token: {error}") from error
        return Auth(issuer, claims, float(payload["exp"]))

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

    def token(self, api_key: str, identity: str, claims: Claims, ttl: datetime.timedelta) -> str:
        """Sign `claims` for `identity` with `api_key`. KeyError when the key is not configured."""
        builder = AccessToken(api_key, self._keys[api_key]).with_identity(identity).with_ttl(ttl)
        builder.claims = claims
        return builder.to_jwt()

    @property
    def default_key(self) -> str:
        """The key that signs what nobody in particular asked for."""
        return next(iter(self._keys))

    def secret(self, api_key: str) -> str:
        return self._keys[api_key]
