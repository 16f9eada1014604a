"""What a participant missed while its socket was away, and what it decided that must outlive its session.

Messages to a lost socket are gone, also those that the server sent before it noticed. Whoever comes back is told again
what no snapshot shows: who left, and what the API did to its tracks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Container
from dataclasses import dataclass

from livekit.protocol import models

__all__ = ["ApiMutes", "Departures", "Permissions", "TrackKey", "Will", "Wills", "key_of"]

MAX_DEPARTURES = 2000
MAX_WILLS = 1000
WILL_SECONDS = 60.0
"""How long the decisions of a session that broke are kept for the next one of the same identity."""

TrackKey = tuple[str, int, int]
"""Name, source and type: what a track keeps when it is published again, under a new sid."""
Permissions = dict[tuple[str, str], set[str] | None]
"""Whom a publisher lets have its tracks: ("sid" or "identity", name) to track sids, None for all."""


def key_of(info: models.TrackInfo) -> TrackKey:
    return info.name, info.source, info.type


class ApiMutes:
    """The API's mutes of one participant's tracks, of which its client perhaps never heard. No snapshot tells it: clients take
    being muted for their own affair."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, bool]] = {}
        """Track sid to when, and what it was told to be."""

    def add(self, sid: str, muted: bool, now: float, published: Container[str]) -> None:
        """`published`: the tracks that there are; what was told of others is forgotten."""
        self._told = {told: what for told, what in self._told.items() if told in published}
        self._told[sid] = (now, muted)

    def since(self, when: float) -> dict[str, bool]:
        """What was told from then on, by track."""
        return {sid: muted for sid, (told, muted) in self._told.items() if told >= when}


class Departures:
    """Who left lately. A client is told of those who left since it was last heard."""

    def __init__(self) -> None:
        self._left: deque[tuple[float, models.ParticipantInfo]] = deque()
        self._forgotten = 0.0
        """Departures up to this time are not known any more."""

    def add(self, info: models.ParticipantInfo) -> None:
        brief = models.ParticipantInfo(
            sid=info.sid,
            identity=info.identity,
            state=models.ParticipantInfo.State.DISCONNECTED,
            version=info.version,
            disconnect_reason=info.disconnect_reason,
            kind=info.kind,
        )
        self._left.append((asyncio.get_running_loop().time(), brief))
        while len(self._left) > MAX_DEPARTURES:
            self._forgotten, _ = self._left.popleft()

    def knows_since(self, time: float) -> bool:
        """False: somebody may have left since then of whom nothing is known any more."""
        return time > self._forgotten

    def since(self, time: float) -> list[models.ParticipantInfo]:
        return [info for left, info in self._left if left >= time]


@dataclass(slots=True)
class Will:
    """What a session leaves to the next one of its identity."""

    allowed: Permissions | None
    """None: everybody."""
    sids: dict[str, TrackKey]
    """What the track sids in `allowed` were."""
    name: str
    metadata: str
    attributes: dict[str, str]
    permission: models.ParticipantPermission
    changed_at: int
    """Unix second of the last change of these four; 0 when there was none. A token from before it knows them not."""
    muted: set[TrackKey]
    """Tracks that the API muted without the client having heard of it."""
    ends: float = 0.0


class Wills:
    """By identity, for those whose session ended without their saying so."""

    def __init__(self) -> None:
        self._wills: OrderedDict[str, Will] = OrderedDict()

    def leave(self, identity: str, will: Will) -> None:
        will.ends = asyncio.get_running_loop().time() + WILL_SECONDS
        self._wills.pop(identity, None)
        self._wills[identity] = will
        while len(self._wills) > MAX_WILLS:
            self._wills.popitem(last=False)

    def take(self, identity: str) -> Will | None:
        will = self._wills.pop(identity, None)
        if will is None or will.ends < asyncio.get_running_loop().time():
            return None
        return will
