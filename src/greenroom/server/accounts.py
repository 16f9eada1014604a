"""What each API key uses, held against its quota: sessions now, and bytes of media within a period."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode
from livekit.protocol import models

from .manager import RoomEvent, RoomManager
from .rules import Quota, Referee, Refused, Usage

if TYPE_CHECKING:
    from .participant import Participant

__all__ = ["Accounts"]

logger = logging.getLogger("greenroom.server.rules")

READ_SECONDS = 5.0
"""How often the counters of sessions are read."""
Stream = tuple[int, Any, Any, Any]
"""Peer connection, track, layer and SSRC."""


@dataclass(slots=True)
class Session:
    api_key: str
    """That it began with."""
    read_at: float
    streams: dict[Stream, int] = field(default_factory=dict)
    """Bytes of each stream when it was read last."""


@dataclass(slots=True)
class Account:
    since: float
    used: int = 0
    """Bytes of the current period."""


class Accounts:
    def __init__(self, manager: RoomManager, referee: Referee) -> None:
        self._manager = manager
        self._referee = referee
        self._sessions: dict[Participant, Session] = {}
        self._present: Counter[str] = Counter()
        """Sessions by API key."""
        self._keys: dict[str, Account] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        if not self._referee.asks_accounts:
            return
        self._unsubscribe = self._manager.on(self._on_event)
        self._manager.before_leaving = self._leaving
        self._later()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._unsubscribe:
            self._unsubscribe()

    def check(self, api_key: str, *, replaces: bool) -> None:
        """Whether one more session may begin. `replaces`: in the place of one that is there. Raises Refused (429)."""
        if not self._referee.asks_accounts:
            return
        quota = self._referee.quota(api_key)
        if quota.participants and not replaces and self._present[api_key] >= quota.participants:
            self._manager.limited["quota_participants"] += 1
            raise Refused(f"all {quota.participants} participants of this API key are in", 429)
        if self._is_used_up(api_key, quota):
            self._manager.limited["quota_bytes"] += 1
            raise Refused("the media of this API key is used up", 429)

    def _is_used_up(self, api_key: str, quota: Quota) -> bool:
        account = self._account(api_key, quota)
        return bool(quota.bytes) and account.used >= quota.bytes

    def _account(self, api_key: str, quota: Quota) -> Account:
        now = asyncio.get_running_loop().time()
        account = self._keys.get(api_key)
        if account is None or now - account.since >= quota.period:
            account = self._keys[api_key] = Account(now)
        return account

    def _on_event(self, event: RoomEvent) -> None:
        participant = event.participant
        if participant is None:
            return
        if event.kind == "participant_joined" and not participant.closed:
            api_key = participant.auth.api_key
            self._present[api_key] += 1
            self._sessions[participant] = Session(api_key, asyncio.get_running_loop().time())

    def _leaving(self, participant: Participant) -> None:
        if participant in self._sessions:
            self._present[self._sessions[participant].api_key] -= 1
            self._read(participant, last=True)

    def _later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(READ_SECONDS, self.read)

    def read(self) -> None:
        """Read all counters, tell the rules, and send away whose key has used up what it has."""
        self._later()
        for participant in list(self._sessions):
            if not participant.closed:
                self._read(participant)
        for api_key in list(self._keys):
            try:
                used_up = self._is_used_up(api_key, self._referee.quota(api_key))
            except Refused:
                continue  # a quota that cannot be asked ends no session that is there
            if not used_up:
                continue
            for participant in [p for p, session in self._sessions.items() if session.api_key == api_key]:
                self._send_away(participant, "the media of this API key is used up")

    def _read(self, participant: Participant, *, last: bool = False) -> None:
        session = self._sessions[participant]
        if last:
            del self._sessions[participant]
        now = asyncio.get_running_loop().time()
        moved = {True: 0, False: 0}
        for peer in participant.negotiation:
            stats = self._manager.media.peer_stats(peer.number)
            for entry in (stats or {}).get("tracks") or ():
                stream = (peer.number, entry.get("track"), entry.get("layer"), entry.get("ssrc"))
                count = int(entry.get("bytes") or 0)
                moved[bool(entry.get("inbound"))] += max(0, count - session.streams.get(stream, 0))
                session.streams[stream] = count
        seconds, session.read_at = now - session.read_at, now
        api_key = session.api_key
        try:
            self._account(api_key, self._referee.quota(api_key)).used += moved[True] + moved[False]
            self._referee.used(
                Usage(
                    room=participant.room.name,
                    identity=participant.identity,
                    participant_sid=participant.sid,
                    api_key=api_key,
                    seconds=seconds,
                    bytes_in=moved[True],
                    bytes_out=moved[False],
                    last=last,
                )
            )
        except Refused as refused:
            if refused.status != 503:  # a rule that failed is the application's mistake, not the participant's
                self._send_away(participant, str(refused))

    def _send_away(self, participant: Participant, why: str) -> None:
        if participant.closed:
            return
        logger.info("%s in %s is sent away: %s", participant.identity, participant.room.name, why)
        reason = models.DisconnectReason.PARTICIPANT_REMOVED
        participant.close(reason, code=WSCloseCode.POLICY_VIOLATION, text=why)
