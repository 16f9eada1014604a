"""What a participant says of itself, or others say of it: name, metadata and attributes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from livekit.protocol import rtc

from .bounds import MAX_ATTRIBUTES
from .echoes import Echoes
from .settings import RoomSettings

__all__ = ["LimitExceeded", "Profile"]


class LimitExceeded(ValueError):
    """Name, metadata or attributes are longer than configured."""


class Profile:
    """Of one session. Changes come from the client and from the API, and may cross on the way."""

    def __init__(self, name: str, metadata: str, attributes: Mapping[str, str]) -> None:
        self.name = name
        self.metadata = metadata
        self.attributes = dict(attributes)
        self.changed_at = 0
        """Unix second of the last change, of its permissions too."""
        self._echoes = Echoes()

    def change(
        self, limits: RoomSettings, *, name: str | None, metadata: str | None, attributes: Mapping[str, str] | None
    ) -> None:
        """Change what is given. An attribute with an empty value goes. Raises LimitExceeded and then changes nothing."""
        merged = {key: value for key, value in {**self.attributes, **(attributes or {})}.items() if value}
        if name is not None and limits.max_name_length and len(name) > limits.max_name_length:
            raise LimitExceeded("name exceeds the limit")
        if metadata is not None and limits.max_metadata_size and len(metadata.encode()) > limits.max_metadata_size:
            raise LimitExceeded("metadata size exceeds the limit")
        if attributes and len(merged) > MAX_ATTRIBUTES:
            raise LimitExceeded(f"more than {MAX_ATTRIBUTES} attributes")
        size = sum(len(key.encode()) + len(value.encode()) for key, value in merged.items())
        if attributes and limits.max_attributes_size and size > limits.max_attributes_size:
            raise LimitExceeded("attributes size exceeds the limit")
        if name is not None:
            self.name = name
        if metadata is not None:
            self.metadata = metadata
        self.attributes = merged
        self.changed_at = int(time.time())

    def meant(self, request: rtc.UpdateParticipantMetadata, now: float) -> dict[str, str | None]:
        """Name and metadata that a client wants changed: empty ones mean "not this one", and what it sends back without
        meaning it is left out."""
        asked = {"name": request.name, "metadata": request.metadata}
        return self._echoes.meant(now, self.own(), asked, otherwise=bool(request.attributes))

    def replaced(self, before: Mapping[str, str], now: float) -> None:
        """The API has changed it, of which the client does not know yet. `before`: `own` from before that."""
        for field, value in self.own().items():
            if before[field] != value:
                self._echoes.replaced(now, field, before[field])

    def own(self) -> dict[str, str]:
        """What clients send along with every change."""
        return {"name": self.name, "metadata": self.metadata}
