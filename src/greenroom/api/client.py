"""`LiveKitAPI`: one object with all service clients and the HTTP session they share."""

from __future__ import annotations

import os

import aiohttp

from .services import AgentDispatchService, EgressService, IngressService, RoomService
from .sip import SipService

__all__ = ["LiveKitAPI"]

DEFAULT_TIMEOUT = 10.0


class LiveKitAPI:
    """Use as `async with LiveKitAPI() as api: await api.room.list_rooms()`.

    `url` is the server's (http, https, ws or wss); it and the keys default to LIVEKIT_URL, LIVEKIT_API_KEY,
    LIVEKIT_API_SECRET; LIVEKIT_TOKEN is a ready token in place of the keys. `timeout` limits a whole call (10 s).
    A `session` given in stays the caller's to close. `failover` is taken for the sake of programs that set it: it is
    about regions of a cloud, and one server has none. ValueError when the url or the keys are missing.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
        *,
        token: str | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        session: aiohttp.ClientSession | None = None,
        failover: bool = True,
    ) -> None:
        url = url or os.environ.get("LIVEKIT_URL")
        if not token and not (api_key and api_secret):
            token = os.environ.get("LIVEKIT_TOKEN")
        if not token:
            api_key = api_key or os.environ.get("LIVEKIT_API_KEY")
            api_secret = api_secret or os.environ.get("LIVEKIT_API_SECRET")
        if not url:
            raise ValueError("url must be set (or LIVEKIT_URL)")
        if not token and not (api_key and api_secret):
            raise ValueError("either token, or api_key and api_secret, must be set")
        self._own_session = session is None
        self._session = session or aiohttp.ClientSession(
            timeout=timeout or aiohttp.ClientTimeout(total=DEFAULT_TIMEOUT)
        )
        args = (self._session, url, api_key or "", api_secret or "")
        self.room = RoomService(*args, token=token or "")
        self.agent_dispatch = AgentDispatchService(*args, token=token or "")
        self.egress = EgressService(*args, token=token or "")
        self.ingress = IngressService(*args, token=token or "")
        self.sip = SipService(*args, token=token or "")

    @classmethod
    def with_token(
        cls,
        token: str,
        url: str | None = None,
        *,
        timeout: aiohttp.ClientTimeout | None = None,
        session: aiohttp.ClientSession | None = None,
        failover: bool = True,
    ) -> LiveKitAPI:
        """A client that sends this token with every call; it must carry the grants they need."""
        return cls(url, token=token, timeout=timeout, session=session, failover=failover)

    async def aclose(self) -> None:
        if self._own_session:
            await self._session.close()

    async def __aenter__(self) -> LiveKitAPI:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
