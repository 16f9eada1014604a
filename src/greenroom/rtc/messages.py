"""Option records that users build with keywords.

In the `livekit` package these are protobuf messages. `Record` keeps what programs rely on: keyword construction,
assignment, nested records that exist before they are set, `HasField`, `CopyFrom`, `ClearField` and equality.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar, Self

from .enums import DegradationPreference, TrackSource, VideoCodec, VideoEncoderBackend


class Record:
    """A small message: `FIELDS` gives each field's default, a factory (`list`, `dict`) or a nested `Record` class."""

    FIELDS: ClassVar[dict[str, Any]] = {}
    __slots__ = ("_set", "_values")

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "_values", {})
        object.__setattr__(self, "_set", set())
        for name, value in values.items():
            if name not in self.FIELDS:
                raise ValueError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(self.FIELDS)}")
            if value is not None:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            default = self.FIELDS[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}") from None
        values = self._values
        if name not in values:
            if not isinstance(default, type):
                return default
            values[name] = default()
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        if self.FIELDS[name] in (list, dict):
            value = self.FIELDS[name](value)
        self._values[name] = value
        self._set.add(name)

    def HasField(self, name: str) -> bool:
        """True when the field was set, or something inside a nested record was."""
        if name not in self.FIELDS:
            raise ValueError(f"{type(self).__name__} has no field {name!r}")
        value = self._values.get(name)
        if isinstance(value, Record):
            return name in self._set or any(value.HasField(inner) for inner in value.FIELDS)
        if isinstance(value, list | dict):
            return bool(value)
        return name in self._set

    def ClearField(self, name: str) -> None:
        self._values.pop(name, None)
        self._set.discard(name)

    def CopyFrom(self, other: Self) -> None:
        object.__setattr__(self, "_values", deepcopy(other._values))
        object.__setattr__(self, "_set", set(other._set))

    def get(self, name: str, default: Any) -> Any:
        """The field's value when it was set, else `default`."""
        return getattr(self, name) if self.HasField(name) else default

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self)()
        copy.CopyFrom(self)
        return copy

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS if self.HasField(name))
        return f"{type(self).__name__}({fields})"


class VideoEncoding(Record):
    """`max_bitrate` in bit/s, `max_framerate` in frames per second."""

    __slots__ = ()
    FIELDS = {"max_bitrate": 0, "max_framerate": 0.0}  # noqa: RUF012


class AudioEncoding(Record):
    """`max_bitrate` in bit/s."""

    __slots__ = ()
    FIELDS = {"max_bitrate": 0}  # noqa: RUF012


class TrackPublishOptions(Record):
    """How a track is published. Unset `dtx`, `red` and `simulcast` mean True; unset encodings are chosen by size."""

    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "video_encoding": VideoEncoding,
        "audio_encoding": AudioEncoding,
        "video_codec": VideoCodec.VP8,
        "dtx": False,
        "red": False,
        "simulcast": False,
        "source": TrackSource.SOURCE_UNKNOWN,
        "stream": "",
        "preconnect_buffer": False,
        "frame_metadata_features": list,
        "scalability_mode": "",
        "video_encoder": VideoEncoderBackend.ENCODER_BACKEND_AUTO,
        "degradation_preference": DegradationPreference.BALANCED,
    }


class IceServer(Record):
    __slots__ = ()
    FIELDS = {"urls": list, "username": "", "password": ""}  # noqa: RUF012


class ParticipantTrackPermission(Record):
    """Who may subscribe to which of our tracks."""

    __slots__ = ()
    FIELDS = {"participant_identity": "", "allow_all": False, "allowed_track_sids": list}  # noqa: RUF012


class FrameMetadata(Record):
    """What a program says about a picture: `user_timestamp` in microseconds (64 bits), `frame_id` (32 bits), `user_data`.

    It reaches receivers of tracks whose `TrackPublishOptions.frame_metadata_features` name a feature. Together the fields take
    250 bytes at most: 10 for a timestamp, 6 for an id, 2 and its length for user data.
    """

    __slots__ = ()
    FIELDS = {"user_timestamp": 0, "frame_id": 0, "user_data": b""}  # noqa: RUF012
