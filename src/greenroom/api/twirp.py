"""The client side of Twirp: one POST a call, protobuf out and in, errors as JSON."""

from __future__ import annotations

import json
import uuid
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from google.protobuf.message import DecodeError, Message

__all__ = ["ServerError", "ServerErrorCode", "SipCallError", "TwirpClient", "TwirpError", "TwirpErrorCode"]

Response = TypeVar("Response", bound=Message)


class ServerErrorCode:
    """The Twirp error codes."""

    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    MALFORMED = "malformed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    BAD_ROUTE = "bad_route"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "dataloss"


class ServerError(Exception):
    """The server refused or failed a call.

    `code` is one of `ServerErrorCode`, `status` the HTTP status, `metadata` what the server added.
    """

    def __init__(self, code: str, msg: str, *, status: int, metadata: dict[str, str] | None = None) -> None:
        super().__init__(code, msg)
        self.code = code
        self.message = msg
        self.status = status
        self.metadata = metadata or {}

    def __str__(self) -> str:
        extra = "".join(f", {key}={value}" for key, value in self.metadata.items())
        return f"{self.code} ({self.status}): {self.message}{extra}"


class SipCallError(ServerError):
    """A SIP call that failed with a SIP status."""

    @property
    def sip_status_code(self) -> int | None:
        """The response code, such as 486."""
        raw = self.metadata.get("sip_status_code", "")
        return int(raw) if raw.isdecimal() else None

    @property
    def sip_status(self) -> str | None:
        """The reason phrase, such as "Busy Here"."""
        return self.metadata.get("sip_status")


TwirpError = ServerError
TwirpErrorCode = ServerErrorCode


def http_url(url: str) -> str:
    """`ws(s)://host/prefix` as `http(s)://host/prefix`, without a trailing slash or query."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path, "", "")).rstrip("/")


class TwirpClient:
    """Calls `<host>/<prefix>/<package>.<service>/<method>`."""

    def __init__(
        self, session: aiohttp.ClientSession, host: str, package: str = "livekit", prefix: str = "twirp"
    ) -> None:
        self._session = session
        self._base = f"{http_url(host)}/{prefix}/{package}"

    async def request(
        self,
        service: str,
        method: str,
        data: Message,
        headers: dict[str, str],
        response_class: type[Response],
        *,
        timeout: float | None = None,
    ) -> Response:
        """One call. `timeout` in seconds replaces the session's. Raises ServerError, or aiohttp's and asyncio's errors
        when the server cannot be reached."""
        headers = {**headers, "Content-Type": "application/protobuf", "X-Livekit-Request-Id": str(uuid.uuid4())}
        options: dict[str, Any] = {"timeout": aiohttp.ClientTimeout(total=timeout)} if timeout else {}
        url = f"{self._base}.{service}/{method}"
        async with self._session.post(url, data=data.SerializeToString(), headers=headers, **options) as response:
            body = await response.read()
            status = response.status
        if status != 200:
            raise _error(status, body)
        try:
            return response_class.FromString(body)
        except DecodeError as error:
            raise ServerError(
                ServerErrorCode.MALFORMED, f"answer is not a {response_class.__name__}", status=200
            ) from error


def _error(status: int, body: bytes) -> ServerError:
    try:
        raw = json.loads(body)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        text = body[:200].decode(errors="replace").strip()
        return ServerError(ServerErrorCode.UNKNOWN, text or f"HTTP status {status}", status=status)
    meta = raw.get("meta")
    meta = {str(key): str(value) for key, value in meta.items()} if isinstance(meta, dict) else {}
    kind = SipCallError if "sip_status_code" in meta else ServerError
    return kind(str(raw.get("code", ServerErrorCode.UNKNOWN)), str(raw.get("msg", "")), status=status, metadata=meta)
