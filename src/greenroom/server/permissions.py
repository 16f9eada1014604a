"""What one participant may do: the grants of its token, until the API or a hook changes them.

The answers are those of LiveKit's `protocol/auth/grants.go`, version 1.13.5 of its server: `canPublish` comes first, then the
sources; a source name that nobody knows allows nothing, but still narrows what is allowed.
"""

from __future__ import annotations

import copy

from livekit.protocol import models

from greenroom.api.grants import VideoGrants

__all__ = ["Grants", "source_name"]


def source_name(source: int) -> str:
    """As tokens write it: "camera", "screen_share_audio", ..."""
    return models.TrackSource.Name(source).lower() if source in models.TrackSource.values() else ""


class Grants:
    """The `VideoGrants` of one session, and the same as the `ParticipantPermission` that everybody is shown."""

    def __init__(self, video: VideoGrants, *, publish_only: bool = False) -> None:
        """`publish_only`: a second session of an identity that is already there, for publishing."""
        self._video = copy.copy(video)
        if publish_only:
            self._video.can_subscribe = False
        self.permission = self._shown()

    def may_publish(self, source: int) -> bool:
        names = self._video.can_publish_sources
        return self._video.can_publish and (not names or source_name(source) in names)

    def update(self, permission: models.ParticipantPermission) -> bool:
        """Take over what the API says, all fields of it. Returns whether that is news."""
        if permission == self.permission:
            return False
        video = self._video
        video.can_publish = permission.can_publish
        video.can_subscribe = permission.can_subscribe
        video.can_publish_data = permission.can_publish_data
        video.can_publish_sources = [source_name(source) for source in permission.can_publish_sources]
        video.can_update_own_metadata = permission.can_update_metadata
        video.hidden = permission.hidden
        video.recorder = permission.recorder
        video.agent = permission.agent
        video.can_subscribe_metrics = permission.can_subscribe_metrics
        video.can_manage_agent_session = permission.can_manage_agent_session
        self.permission = self._shown()
        return True

    def token(self, room: str) -> VideoGrants:
        """What a refreshed token carries: the token's own grants with what has changed since."""
        video = copy.copy(self._video)
        video.room = room
        return video

    def _shown(self) -> models.ParticipantPermission:
        video = self._video
        known = models.TrackSource.keys()
        return models.ParticipantPermission(
            can_subscribe=video.can_subscribe,
            can_publish=video.can_publish,
            can_publish_data=video.can_publish_data,
            can_publish_sources=[
                name.upper() if name.upper() in known else "UNKNOWN" for name in video.can_publish_sources or ()
            ],
            hidden=bool(video.hidden),
            recorder=bool(video.recorder),
            can_update_metadata=bool(video.can_update_own_metadata),
            agent=bool(video.agent),
            can_subscribe_metrics=bool(video.can_subscribe_metrics),
            can_manage_agent_session=bool(video.can_manage_agent_session),
        )
