"""Enumerations of the SDK.

Values travel on the wire and sit in users' programs, so they are those of the `livekit` package. The classes are
`IntEnum`s that also answer what a protobuf enum wrapper answers: `Name(value)`, `Value(name)`, `keys()`, `values()`,
`items()` and `ValueType`. Short aliases (`TrackKind.AUDIO`) stand beside the long names.
"""

from __future__ import annotations

from enum import EnumMeta, IntEnum
from typing import Any, TypeVar


class _WireEnumMeta(EnumMeta):
    """Class-level helpers with protobuf's names."""

    @property
    def ValueType(cls) -> type:
        """For annotations: any value of the enum."""
        return cls

    def Name(cls, number: int) -> str:
        """The canonical name of `number`. ValueError when there is none."""
        return cls(number).name

    def Value(cls, name: str | None) -> int:
        """The value called `name` (long name or alias). ValueError when there is none."""
        try:
            return cls.__members__[name or ""]
        except KeyError:
            raise ValueError(f"{cls.__name__} has no value {name!r}") from None

    def _listed(cls) -> list[Any]:
        members: Any = cls  # a class of members, which the type of its metaclass does not say
        return list(members)

    def keys(cls) -> list[str]:
        return [member.name for member in cls._listed()]

    def values(cls) -> list[int]:
        return list(cls._listed())

    def items(cls) -> list[tuple[str, int]]:
        return [(member.name, member) for member in cls._listed()]


class WireEnum(IntEnum, metaclass=_WireEnumMeta):
    """An `IntEnum` that prints as its number, the way protobuf values do, and as its name in `repr`."""

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)


E = TypeVar("E", bound=IntEnum)


def from_wire(enum: type[E], value: int, default: int = 0) -> E:
    """`enum(value)`, or `enum(default)` for a value that a newer server invented."""
    try:
        return enum(value)
    except ValueError:
        return enum(default)


class TrackKind(WireEnum):
    KIND_UNKNOWN = 0
    KIND_AUDIO = 1
    KIND_VIDEO = 2
    UNKNOWN = 0
    AUDIO = 1
    VIDEO = 2


class TrackSource(WireEnum):
    SOURCE_UNKNOWN = 0
    SOURCE_CAMERA = 1
    SOURCE_MICROPHONE = 2
    SOURCE_SCREENSHARE = 3
    SOURCE_SCREENSHARE_AUDIO = 4
    UNKNOWN = 0
    CAMERA = 1
    MICROPHONE = 2
    SCREENSHARE = 3
    SCREENSHARE_AUDIO = 4


class StreamState(WireEnum):
    STATE_UNKNOWN = 0
    STATE_ACTIVE = 1
    STATE_PAUSED = 2
    UNKNOWN = 0
    ACTIVE = 1
    PAUSED = 2


class ConnectionQuality(WireEnum):
    QUALITY_UNKNOWN = -1
    QUALITY_POOR = 0
    QUALITY_GOOD = 1
    QUALITY_EXCELLENT = 2
    QUALITY_LOST = 3
    UNKNOWN = -1
    POOR = 0
    GOOD = 1
    EXCELLENT = 2
    LOST = 3


class ConnectionState(WireEnum):
    CONN_DISCONNECTED = 0
    CONN_CONNECTED = 1
    CONN_RECONNECTING = 2
    DISCONNECTED = 0
    CONNECTED = 1
    RECONNECTING = 2


class DataPacketKind(WireEnum):
    KIND_LOSSY = 0
    KIND_RELIABLE = 1
    LOSSY = 0
    RELIABLE = 1


class DegradationPreference(WireEnum):
    BALANCED = 0
    MAINTAIN_FRAMERATE = 1
    MAINTAIN_RESOLUTION = 2
    MAINTAIN_FRAMERATE_AND_RESOLUTION = 4


class IceTransportType(WireEnum):
    TRANSPORT_RELAY = 0
    TRANSPORT_NOHOST = 1
    TRANSPORT_ALL = 2


class ContinualGatheringPolicy(WireEnum):
    GATHER_ONCE = 0
    GATHER_CONTINUALLY = 1


class EncryptionType(WireEnum):
    NONE = 0
    GCM = 1
    CUSTOM = 2


class EncryptionState(WireEnum):
    NEW = 0
    OK = 1
    ENCRYPTION_FAILED = 2
    DECRYPTION_FAILED = 3
    MISSING_KEY = 4
    KEY_RATCHETED = 5
    INTERNAL_ERROR = 6


class KeyDerivationFunction(WireEnum):
    PBKDF2 = 0
    HKDF = 1


class FrameMetadataFeature(WireEnum):
    FMF_USER_TIMESTAMP = 0
    FMF_FRAME_ID = 1
    FMF_USER_DATA = 2


class AudioTrackFeature(WireEnum):
    TF_STEREO = 0
    TF_NO_DTX = 1
    TF_AUTO_GAIN_CONTROL = 2
    TF_ECHO_CANCELLATION = 3
    TF_NOISE_SUPPRESSION = 4
    TF_ENHANCED_NOISE_CANCELLATION = 5
    TF_PRECONNECT_BUFFER = 6


class VideoRotation(WireEnum):
    VIDEO_ROTATION_0 = 0
    VIDEO_ROTATION_90 = 1
    VIDEO_ROTATION_180 = 2
    VIDEO_ROTATION_270 = 3


class VideoQuality(WireEnum):
    VIDEO_QUALITY_LOW = 0
    VIDEO_QUALITY_MEDIUM = 1
    VIDEO_QUALITY_HIGH = 2
    LOW = 0
    MEDIUM = 1
    HIGH = 2


class VideoCodec(WireEnum):
    VP8 = 0
    H264 = 1
    AV1 = 2
    VP9 = 3
    H265 = 4


class VideoBufferType(WireEnum):
    RGBA = 0
    ABGR = 1
    ARGB = 2
    BGRA = 3
    RGB24 = 4
    I420 = 5
    I420A = 6
    I422 = 7
    I444 = 8
    I010 = 9
    NV12 = 10


class VideoEncoderBackend(WireEnum):
    ENCODER_BACKEND_AUTO = 0
    ENCODER_BACKEND_SOFTWARE = 1
    ENCODER_BACKEND_HARDWARE = 2
    ENCODER_BACKEND_NVENC = 3
    ENCODER_BACKEND_VAAPI = 4
    ENCODER_BACKEND_VIDEOTOOLBOX = 5
    ENCODER_BACKEND_PRE_ENCODED = 6


class ParticipantKind(WireEnum):
    PARTICIPANT_KIND_STANDARD = 0
    PARTICIPANT_KIND_INGRESS = 1
    PARTICIPANT_KIND_EGRESS = 2
    PARTICIPANT_KIND_SIP = 3
    PARTICIPANT_KIND_AGENT = 4
    PARTICIPANT_KIND_CONNECTOR = 5
    PARTICIPANT_KIND_BRIDGE = 6
    STANDARD = 0
    INGRESS = 1
    EGRESS = 2
    SIP = 3
    AGENT = 4
    CONNECTOR = 5
    BRIDGE = 6


KIND_FROM_PROTO = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 7: 5, 8: 6}
"""`livekit.ParticipantInfo.Kind` to `ParticipantKind`: the last two have other numbers on the wire."""


class ParticipantKindDetail(WireEnum):
    PARTICIPANT_KIND_DETAIL_CLOUD_AGENT = 0
    PARTICIPANT_KIND_DETAIL_FORWARDED = 1
    PARTICIPANT_KIND_DETAIL_CONNECTOR_WHATSAPP = 2
    PARTICIPANT_KIND_DETAIL_CONNECTOR_TWILIO = 3
    PARTICIPANT_KIND_DETAIL_BRIDGE_RTSP = 4
    PARTICIPANT_KIND_DETAIL_SIMULATION = 5


class ParticipantState(WireEnum):
    PARTICIPANT_STATE_JOINING = 0
    PARTICIPANT_STATE_JOINED = 1
    PARTICIPANT_STATE_ACTIVE = 2
    PARTICIPANT_STATE_DISCONNECTED = 3
    JOINING = 0
    JOINED = 1
    ACTIVE = 2
    DISCONNECTED = 3


class DisconnectReason(WireEnum):
    UNKNOWN_REASON = 0
    CLIENT_INITIATED = 1
    DUPLICATE_IDENTITY = 2
    SERVER_SHUTDOWN = 3
    PARTICIPANT_REMOVED = 4
    ROOM_DELETED = 5
    STATE_MISMATCH = 6
    JOIN_FAILURE = 7
    MIGRATION = 8
    SIGNAL_CLOSE = 9
    ROOM_CLOSED = 10
    USER_UNAVAILABLE = 11
    USER_REJECTED = 12
    SIP_TRUNK_FAILURE = 13
    CONNECTION_TIMEOUT = 14
    MEDIA_FAILURE = 15
    AGENT_ERROR = 16


class SimulateScenarioKind(WireEnum):
    SIMULATE_SIGNAL_RECONNECT = 0
    SIMULATE_SPEAKER = 1
    SIMULATE_NODE_FAILURE = 2
    SIMULATE_SERVER_LEAVE = 3
    SIMULATE_MIGRATION = 4
    SIMULATE_FORCE_TCP = 5
    SIMULATE_FORCE_TLS = 6
    SIMULATE_FULL_RECONNECT = 7
    SIMULATE_DISCONNECT_SIGNAL_ON_RESUME = 8
