"""Receiving webhooks: checks that the server sent this body, then reads it."""

from __future__ import annotations

import base64
import hashlib
import hmac

from google.protobuf.json_format import Parse, ParseError
from livekit.protocol.webhook import WebhookEvent

from .access_token import TokenVerifier

__all__ = ["WebhookReceiver", "body_hash"]


def body_hash(body: bytes) -> str:
    """Claim `sha256` of a webhook's token: standard base64 of the body's SHA-256."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


class WebhookReceiver:
    def __init__(self, token_verifier: TokenVerifier) -> None:
        self._verifier = token_verifier

    def receive(self, body: str, auth_token: str) -> WebhookEvent:
        """`body` as it arrived, `auth_token` the Authorization header's value.

        Raises `jwt.InvalidTokenError` for a bad token, ValueError when the token is not about this body or the body is
        not an event.
        """
        claims = self._verifier.verify(auth_token.removeprefix("Bearer "))
        if not claims.sha256:
            raise ValueError("the token carries no sha256")
        if not hmac.compare_digest(claims.sha256, body_hash(body.encode())):
            raise ValueError("the token's sha256 does not match the body")
        try:
            return Parse(body, WebhookEvent(), ignore_unknown_fields=True)
        except ParseError as error:
            raise ValueError(f"the body is not a webhook event: {error}") from error
