"""Why sessions ended: asked when a client comes back to one that is over.

A session ends in one place (`Participant.close`), but its client may learn of it on two ways: the farewell over signalling, and
the end of its media, which may be quicker. Who then asks to resume must hear the same reason again, not "join anew": it would
be back in a room that it was sent out of, or that was deleted.
"""

from __future__ import annotations

from collections import OrderedDict

from livekit.protocol import models

__all__ = ["Endings"]

Reason = models.DisconnectReason

FINAL = frozenset(
    (
        Reason.CLIENT_INITIATED,
        Reason.DUPLICATE_IDENTITY,
        Reason.PARTICIPANT_REMOVED,
        Reason.ROOM_DELETED,
        Reason.ROOM_CLOSED,
        Reason.SERVER_SHUTDOWN,
    )
)
"""What was decided. Others (a lost connection, a mismatch) are accidents, and whoever comes back is welcome."""
DECIDED_BY_OTHERS = frozenset((Reason.PARTICIPANT_REMOVED, Reason.ROOM_DELETED, Reason.ROOM_CLOSED))
"""What also ends a join anew in place of that session."""
KEPT_SECONDS = 60.0
"""As long as clients try to come back."""
MOST = 10_000


class Endings:
    def __init__(self) -> None:
        self._reasons: OrderedDict[str, tuple[float, models.DisconnectReason]] = OrderedDict()
        """Participant sid to when and why, the oldest first."""

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, sid: str, reason: models.DisconnectReason, now: float) -> None:
        if reason in FINAL:
            self._reasons[sid] = (now, reason)
        while self._reasons:
            oldest = next(iter(self._reasons))
            if len(self._reasons) <= MOST and self._reasons[oldest][0] > now - KEPT_SECONDS:
                return
            del self._reasons[oldest]

    def of_resumed(self, sid: str) -> models.DisconnectReason | None:
        """Why the session that a client wants to resume is over for good; None when that is not so."""
        return self._reasons[sid][1] if sid in self._reasons else None

    def of_rejoined(self, sid: str) -> models.DisconnectReason | None:
        """The same for a client that joins anew and says which session it had."""
        reason = self.of_resumed(sid)
        return reason if reason in DECIDED_BY_OTHERS else None
