"""What both roles of a peer connection share: credentials, the remote side, the native peer."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from greenroom.server import ids
from greenroom.server.sdp import LocalTransport, SdpError, SessionDescription

if TYPE_CHECKING:
    from greenroom._native import MediaServer

__all__ = ["PeerConnection"]


class PeerConnection:
    """One BUNDLE group between a client and the native core."""

    rest = 2.0
    """Seconds that a section rests after its track ended. The Rust engine mixes up the end of a track and the beginning
    of the next one on the same receiver when they follow each other at once."""

    def __init__(self, media: MediaServer, number: int, room: int, addresses: tuple[str, ...]) -> None:
        """`number` and `room` name peer and room in the core; `addresses` become host candidates."""
        self.media = media
        self.number = number
        self.connected = False
        self.local = LocalTransport(
            ids.ice_ufrag(),
            ids.ice_pwd(),
            media.fingerprint,
            tuple((address, media.port(room)) for address in addresses),
        )
        self.ssrcs: set[int] = set()
        self._remote: tuple[str, str, str] | None = None
        self._remote_waits = False
        self._session_id = secrets.randbits(62)
        self._session_version = int(time.time())
        self._closed = False
        media.add_peer(number, room, self.local.ufrag, self.local.pwd)

    def restart_ice(self) -> None:
        """New local credentials (RFC 8839 4.4.1.1.1); the next answer or offer carries them."""
        self.local = LocalTransport(ids.ice_ufrag(), ids.ice_pwd(), self.local.fingerprint, self.local.addresses)
        self.media.restart_ice(self.number, self.local.ufrag, self.local.pwd)

    def take_remote(self, description: SessionDescription) -> tuple[bool, bool]:
        """Give the core the other side's credentials. Returns (they are new, they replace earlier ones).

        The first section that is not rejected speaks for the bundle."""
        section = next((section for section in description.media if not section.rejected and section.ice_ufrag), None)
        if section is None or not section.ice_pwd or not section.fingerprint:
            raise SdpError("no ICE credentials or fingerprint")
        self._remote_waits = section.setup == "passive"
        remote = (section.ice_ufrag, section.ice_pwd, section.fingerprint)
        known = self._remote
        if remote == known:
            return False, False
        self._remote = remote
        return True, known is not None

    def publish_remote(self) -> None:
        assert self._remote is not None
        ufrag, pwd, fingerprint = self._remote
        try:
            self.media.set_remote(self.number, ufrag, pwd, fingerprint)
        except ValueError as error:
            raise SdpError(str(error)) from None
        if self._remote_waits:
            # Pion answers an ICE-lite offer so: it is the DTLS server of the connection then (RFC 8842 5.3).
            self.media.start_dtls(self.number)

    def rested_since(self) -> float:
        """A section whose track ended before this loop time can take another."""
        return asyncio.get_running_loop().time() - self.rest

    def next_session(self) -> tuple[int, int]:
        """Session id and version of the next description (RFC 8866 5.2)."""
        self._session_version += 1
        return self._session_id, self._session_version

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.media.remove_peer(self.number)
