"""The participant SDK: join a room as a program.

The object model, names, defaults and enum values are those of the `livekit` package's `rtc` module, so that a program
runs after changing `from livekit import rtc` to `from greenroom import rtc`. Names load on first use.

    room = rtc.Room()
    room.on("track_subscribed", on_track)
    await room.connect("ws://localhost:7880", token)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from greenroom import __version__

_HOMES = {
    "audio_frame": ("AudioFrame", "AudioFrameEvent"),
    "audio_mixer": ("AudioMixer",),
    "audio_resampler": ("AudioResampler", "AudioResamplerQuality"),
    "audio_source": ("AudioSource",),
    "audio_stream": ("AudioStream",),
    "data_stream": (
        "ByteStreamInfo",
        "ByteStreamReader",
        "ByteStreamWriter",
        "TextStreamInfo",
        "TextStreamReader",
        "TextStreamWriter",
    ),
    "data_track": ("DataTrackFrame", "DataTrackInfo", "DataTrackStream", "LocalDataTrack", "RemoteDataTrack"),
    "e2ee": ("E2EEManager", "E2EEOptions", "KeyProviderOptions"),
    "enums": (
        "AudioTrackFeature",
        "ConnectionQuality",
        "ConnectionState",
        "ContinualGatheringPolicy",
        "DataPacketKind",
        "DegradationPreference",
        "DisconnectReason",
        "EncryptionState",
        "EncryptionType",
        "FrameMetadataFeature",
        "IceTransportType",
        "KeyDerivationFunction",
        "ParticipantKind",
        "ParticipantKindDetail",
        "ParticipantState",
        "SimulateScenarioKind",
        "StreamState",
        "TrackKind",
        "TrackSource",
        "VideoBufferType",
        "VideoCodec",
        "VideoEncoderBackend",
        "VideoQuality",
        "VideoRotation",
    ),
    "errors": (
        "ConnectError",
        "MetadataError",
        "PublishDTMFError",
        "PublishDataError",
        "PublishDataTrackError",
        "PublishTrackError",
        "PublishTranscriptionError",
        "PushFrameError",
        "RtcError",
        "StreamError",
        "SubscribeDataTrackError",
        "UnpublishTrackError",
    ),
    "event_emitter": ("EventEmitter",),
    "frame_processor": ("FrameProcessor", "NoiseCancellationOptions"),
    "local_participant": ("LocalParticipant",),
    "messages": (
        "AudioEncoding",
        "FrameMetadata",
        "IceServer",
        "ParticipantTrackPermission",
        "TrackPublishOptions",
        "VideoEncoding",
    ),
    "participant": ("Participant", "RemoteParticipant"),
    "room": ("DataPacket", "DataStreamOptions", "Room", "RoomOptions", "RtcConfiguration", "RtcStats", "SipDTMF"),
    "rpc": ("RpcCallInfo", "RpcError", "RpcInterceptor", "RpcInvocationData"),
    "synchronizer": ("AVSynchronizer",),
    "track": (
        "AudioTrack",
        "LocalAudioTrack",
        "LocalTrack",
        "LocalVideoTrack",
        "RemoteAudioTrack",
        "RemoteTrack",
        "RemoteVideoTrack",
        "Track",
        "VideoTrack",
    ),
    "track_publication": ("LocalTrackPublication", "RemoteTrackPublication", "TrackPublication"),
    "transcription": ("Transcription", "TranscriptionSegment"),
    "utils": ("combine_audio_frames", "sine_wave_generator"),
    "video_frame": ("VideoFrame", "VideoFrameEvent"),
    "video_source": ("VideoSource",),
    "video_stream": ("VideoStream",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_MODULE_OF), "__version__", "preload", "stats"]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is not None:
        value = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value
    if name in _HOMES or name == "stats":
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def preload() -> None:
    """Import everything that joining a room needs, so that the first join does not pay for it. Starts no thread."""
    import aiohttp  # noqa: F401

    for module in _HOMES:
        import_module(f"{__name__}.{module}")
    import_module("greenroom._native")
