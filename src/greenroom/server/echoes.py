"""What a client sends back without meaning it.

`UpdateParticipantMetadata` cannot name its fields: clients that change one thing (attributes, say) send metadata and name along
as they saw them last. When the API has just replaced one of these and the client has not heard of it yet, that would undo the
API's change.
"""

from __future__ import annotations

from collections import deque

__all__ = ["ECHO_SECONDS", "Echoes"]

ECHO_SECONDS = 10.0
"""How long ago a value may have been replaced for it still to be what a client saw last."""
MOST = 16
"""Replaced values that are remembered."""


class Echoes:
    """Of one participant's name and metadata."""

    __slots__ = ("_replaced",)

    def __init__(self) -> None:
        self._replaced: deque[tuple[float, str, str]] = deque(maxlen=MOST)
        """When, which field, and the value that the API replaced, the oldest first."""

    def replaced(self, now: float, field: str, value: str) -> None:
        """The API replaced this value."""
        if value:
            self._replaced.append((now, field, value))

    def meant(
        self, now: float, current: dict[str, str], asked: dict[str, str], *, otherwise: bool
    ) -> dict[str, str | None]:
        """Of the fields that a client sent, those to change. `otherwise`: it changes something beside them (attributes).

        A value that the API has just replaced is an echo, unless it is all that the request could be about."""
        stale = {(field, value) for when, field, value in self._replaced if when > now - ECHO_SECONDS}
        new = {field: value for field, value in asked.items() if value and value != current[field]}
        fresh = {field: value for field, value in new.items() if (field, value) not in stale}
        chosen = fresh if fresh or otherwise else new
        return {field: chosen.get(field) for field in asked}
