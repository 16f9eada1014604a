"""What the signalling side of the room server is configured with.

`greenroom.server.config` reads files, flags and environment and makes one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from livekit.protocol import agent_dispatch, models, room, rtc

from .bounds import DEPLOYMENT
from .budgets import Rates

__all__ = ["PROTOCOL", "VERSION", "RoomSettings"]

VERSION = "1.13.5"
"""The LiveKit server version whose wire behaviour this server has. Clients parse it as a semantic version."""

PROTOCOL = 17
"""`ServerInfo.protocol`. 18 would make clients use pre-negotiated data channels."""

DEFAULT_CODECS = (
    "video/VP8",
    "video/H264",
    "video/VP9",
    "video/AV1",
    "audio/opus",
    "audio/red",
    "audio/PCMU",
    "audio/PCMA",
)


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """Limits, defaults and addresses for rooms. Times are seconds, sizes bytes."""

    auto_create: bool = True
    """Joining an unknown room makes it; otherwise the join is refused with 404."""
    empty_timeout: int = 300
    """Close a room that nobody ever joined."""
    departure_timeout: int = 20
    """Close a room after its last independent participant left."""
    max_participants: int = 0
    """0: unlimited. Agents and recorders are not counted."""
    top_speakers: int = 0
    """Forward only so many of a room's audio tracks, the loudest. 0: all."""
    enabled_codecs: tuple[str, ...] = DEFAULT_CODECS
    """MIME types that may be published, best first: video before audio."""
    enable_remote_unmute: bool = False
    room_configurations: Mapping[str, room.RoomConfiguration] = field(default_factory=lambda: MappingProxyType({}))
    """Named presets for the `roomPreset` claim and `CreateRoomRequest.room_preset`."""
    node_ips: tuple[str, ...] = ("127.0.0.1",)
    """Addresses in the ICE candidates of every answer and offer."""
    ice_servers: tuple[rtc.ICEServer, ...] = ()
    region: str = ""
    node_id: str = "ND_local"
    max_metadata_size: int = 512 * 1024
    max_attributes_size: int = 64 * 1024
    max_identity_length: int = 256
    max_name_length: int = 256
    max_room_name_length: int = 256
    max_rooms: int = 0
    """0: unlimited."""
    num_tracks: int = 0
    """Tracks that are published and received on this server, counted together; beyond it nobody joins. 0: unlimited."""
    subscription_limit_audio: int = 0
    """Audio tracks that one participant may receive. 0: as many as `bounds.MAX_SUBSCRIPTIONS`."""
    subscription_limit_video: int = 0
    rates: Rates = field(default_factory=Rates)
    """What one participant may do in a second."""
    sync_streams: bool = False
    """Subscribers get audio and video of one participant in one stream, for lip sync (a room can ask for it too)."""
    allow_pause: bool = False
    """Whether congestion control may pause a subscriber's video (`StreamStateUpdate`)."""
    ping_interval: int = 5
    ping_timeout: int = 15
    join_timeout: float = 60.0
    """A session whose peer connection is not up by then is removed."""
    max_subscribers_uncoalesced: int = 30
    """Rooms up to this size get participant updates at once; larger ones get them in batches."""

    def check_metadata(self, metadata: str) -> None:
        """Of a room or an agent's dispatch. ValueError when it is longer than it may be."""
        if self.max_metadata_size and len(metadata.encode()) > self.max_metadata_size:
            raise ValueError(f"metadata size exceeds limits: max size {self.max_metadata_size}")

    def check_wish(self, wish: agent_dispatch.RoomAgentDispatch | agent_dispatch.CreateAgentDispatchRequest) -> None:
        """An agent that somebody wants in a room: its worker is sent all that stands here. ValueError when it may not be."""
        self.check_metadata(wish.metadata)
        size = sum(len(key.encode()) + len(value.encode()) for key, value in wish.attributes.items())
        if self.max_attributes_size and size > self.max_attributes_size:
            raise ValueError(f"attributes size exceeds limits: max size {self.max_attributes_size}")
        if not DEPLOYMENT.fullmatch(wish.deployment):
            raise ValueError("invalid deployment")

    def publish_codecs(self, publishable: tuple[str, ...]) -> list[models.Codec]:
        """`JoinResponse.enabled_publish_codecs`: VP8 and H264 first, then other video, then audio; RTX left out."""
        first = ("video/vp8", "video/h264")

        def rank(mime: str) -> int:
            lower = mime.lower()
            return first.index(lower) if lower in first else 2 if lower.startswith("video/") else 3

        usable = [mime for mime in publishable if not mime.lower().endswith("/rtx")]
        return [models.Codec(mime=mime) for mime in sorted(usable, key=rank)]

    def server_info(self) -> models.ServerInfo:
        return models.ServerInfo(
            edition=models.ServerInfo.Standard,
            version=VERSION,
            protocol=PROTOCOL,
            region=self.region,
            node_id=self.node_id,
            agent_protocol=1,
        )
