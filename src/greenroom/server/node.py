"""This server as a node: what a router is given of it, and what it does for other nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from .admission import Admission, Admissions
from .arrival import Arrival
from .auth import Auth
from .twirp import Services
from .workers import Workers

if TYPE_CHECKING:
    from .manager import RoomManager

__all__ = ["LocalNode"]


@dataclass(frozen=True, slots=True)
class LocalNode:
    """What comes here stays here: no router is asked about it again, so nothing goes round in circles."""

    id: str
    rooms: RoomManager
    """Those that live here. `rooms.on` tells of every change."""
    workers: Workers
    """The agent workers that this node's rooms may be given. A router adds those of other nodes."""
    admissions: Admissions
    services: Services

    async def check(self, arrival: Arrival) -> None:
        await self.admissions.admit(arrival)

    async def admit(self, arrival: Arrival) -> Admission:
        return await self.admissions.admit(arrival)

    async def call(self, auth: Auth, service: str, method: str, request: Message) -> Message:
        return await self.services.call(auth, service, method, request)
