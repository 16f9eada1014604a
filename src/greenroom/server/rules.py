"""An application's own rules: who is let in, what may be published, and how much each API key may use.

A token says what its signer allows. What only the application knows when it matters (a meeting is full, a customer has not
paid, an address is banned) is asked here. Derive from `Rules`, override what is needed, and give an object of it to
`RoomServer(config, rules=...)`, or its name to a configuration file (`rules: "package.module:name"`).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from livekit.protocol import models

from greenroom.api.grants import VideoGrants

from .permissions import source_name

if TYPE_CHECKING:
    from livekit.protocol import rtc

    from .participant import Participant

__all__ = [
    "Joining",
    "Publishing",
    "Quota",
    "Referee",
    "Refused",
    "Rules",
    "Usage",
    "Visitor",
    "load_rules",
    "publishing",
    "publishing_of",
]

logger = logging.getLogger("greenroom.server.rules")

HOOK_SECONDS = 5.0
"""A rule that takes longer has failed, and what it was asked about is refused."""

STATUSES = (400, 401, 403, 404, 429, 503)

T = TypeVar("T")


class Refused(Exception):
    """Raised by a rule that says no. The text is told to the client."""

    def __init__(self, text: str = "refused", status: int = 403) -> None:
        """`status`: of the HTTP answer, where there is one: 400, 401, 403, 404, 429 or 503."""
        if status not in STATUSES:
            raise ValueError(f"status {status} is none of {STATUSES}")
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Visitor:
    """An HTTP request of which nothing is known yet but where it comes from."""

    address: str
    """Of the client: behind trusted proxies the one they name; a /64 for IPv6. Empty for a free one (development)."""
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Joining:
    """A session with a good token that is about to begin, or to be resumed."""

    room: str
    identity: str
    name: str
    kind: str
    """"standard", "agent", "sip", ... as in the token; empty: standard."""
    metadata: str
    attributes: Mapping[str, str]
    grants: VideoGrants
    api_key: str
    address: str
    """As `Visitor.address`."""
    resumed: bool
    participants: int
    """Sessions that are in the room now."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """A track that is about to be published, after the token's own grants have allowed it."""

    room: str
    identity: str
    participant_sid: str
    """Empty for tracks that are asked for together with the join."""
    api_key: str
    kind: str
    """"audio" or "video"."""
    source: str
    """"camera", "microphone", "screen_share", "screen_share_audio" or "unknown"."""
    name: str
    width: int
    height: int
    tracks: int
    """Those that it has published already."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one API key may use at a time. 0: no limit."""

    participants: int = 0
    """Sessions, agents among them."""
    bytes: int = 0
    """Media of these sessions, in and out, within `period`. When it is used up they are sent away and none is let in."""
    period: float = 86400.0
    """Seconds, counted from the first use of the key."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one session used since it was last told of."""

    room: str
    identity: str
    participant_sid: str
    api_key: str
    seconds: float
    bytes_in: int
    """Media from the participant."""
    bytes_out: int
    """Media to it."""
    last: bool
    """The session has ended."""


class Rules:
    """Allows everything. Methods that may be asked a question raise `Refused` to say no; each may be a plain or an async method
    except where it says otherwise. What raises anything else, or takes longer than 5 s, refuses with 503 and is logged."""

    def admit(self, visitor: Visitor) -> None:
        """Any request, before its token is read. Plain only, and quick: it is asked for each."""

    def authorise_join(self, joining: Joining) -> VideoGrants | Awaitable[VideoGrants | None] | None:
        """A join or a resume. Returns the grants that the session gets in place of the token's, None to leave those. Those of a
        session that is resumed stay as they are."""

    def authorise_publish(self, publishing: Publishing) -> Awaitable[None] | None:
        """A request to publish. A refusal is `RequestResponse` NOT_ALLOWED with the text."""

    def quota(self, api_key: str) -> Quota:
        """How much a key may use now. Plain only."""
        return Quota()

    def used(self, usage: Usage) -> None:
        """Told of every session every 5 s and when it ends. Plain only. `Refused` sends it away."""


def load_rules(name: str) -> Rules:
    """`package.module:name` of a `Rules` object or class. ValueError says what is wrong with it."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{name!r} is not of the form package.module:name")
    try:
        found = getattr(importlib.import_module(module), attribute)
        rules = found() if inspect.isclass(found) else found
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{name!r} cannot be loaded: {error}") from error
    if not isinstance(rules, Rules):
        raise ValueError(f"{name!r} is a {type(rules).__name__}, not greenroom.server.rules.Rules")
    return rules


class Referee:
    """Asks the rules, so that whatever they do the answer is yes or `Refused`."""

    def __init__(self, rules: Rules, limited: Counter[str]) -> None:
        """`limited`: where refusals are counted."""
        self._rules = rules
        self._limited = limited

    def admit(self, visitor: Visitor) -> None:
        self._plain("admit", lambda: self._rules.admit(visitor))

    async def authorise_join(self, joining: Joining) -> VideoGrants | None:
        return await self._ask("join", lambda: self._rules.authorise_join(joining))

    async def authorise_publish(self, publishing: Publishing) -> None:
        await self._ask("publish", lambda: self._rules.authorise_publish(publishing))

    def quota(self, api_key: str) -> Quota:
        return self._plain("quota", lambda: self._rules.quota(api_key))

    def used(self, usage: Usage) -> None:
        self._plain("used", lambda: self._rules.used(usage))

    @property
    def asks_admission(self) -> bool:
        """Whether there is a rule about requests at all."""
        return type(self._rules).admit is not Rules.admit

    @property
    def asks_accounts(self) -> bool:
        """Whether there is a rule about what is used at all."""
        kind = type(self._rules)
        return kind.quota is not Rules.quota or kind.used is not Rules.used

    @property
    def asks_publish(self) -> bool:
        """Whether there is a rule about publishing at all."""
        return type(self._rules).authorise_publish is not Rules.authorise_publish

    def _plain(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Refused:
            self._limited[f"rule_{what}"] += 1
            raise
        except Exception as error:
            raise self._failed(what) from error

    async def _ask(self, what: str, ask: Callable[[], T | Awaitable[T]]) -> T:
        try:
            answer = ask()
            if not isinstance(answer, Awaitable):
                return answer
            async with asyncio.timeout(HOOK_SECONDS):
                return await answer
        except Refused:
            self._limited[f"rule_{what}"] += 1
            raise
        except Exception as error:
            raise self._failed(what) from error

    def _failed(self, what: str) -> Refused:
        """Called while the exception is handled."""
        self._limited["rule_failed"] += 1
        logger.exception("the application's rule about %s failed: refused", what)
        return Refused("the server's rules cannot be asked now", 503)


def publishing(participant: Participant, request: rtc.AddTrackRequest) -> Publishing:
    return publishing_of(
        participant.room.name,
        participant.identity,
        participant.auth.api_key,
        request,
        sid=participant.sid,
        tracks=len(participant.tracks),
    )


def publishing_of(
    room: str, identity: str, api_key: str, request: rtc.AddTrackRequest, *, sid: str = "", tracks: int = 0
) -> Publishing:
    return Publishing(
        room=room,
        identity=identity,
        participant_sid=sid,
        api_key=api_key,
        kind="video" if request.type == models.TrackType.VIDEO else "audio",
        source=source_name(request.source) or "unknown",
        name=request.name,
        width=request.width,
        height=request.height,
        tracks=tracks,
    )
