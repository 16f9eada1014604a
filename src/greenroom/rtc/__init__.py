"""The participant SDK: join a room as a program.

The object model, names, defaults and enum values are those of the `livekit` package's `rtc` module, so that a program
runs after changing `from livekit import rtc` to `from greenroom import rtc`. Names load on first use.

    room = rtc.Room()
    room.on("track_subscribed", on_track)
    await room.connect("ws://localhost:7880", token)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from greenroom import __version__

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from . import stats as stats
    from .audio_frame import AudioFrame as AudioFrame, AudioFrameEvent as AudioFrameEvent
    from .audio_mixer import AudioMixer as AudioMixer
    from .audio_resampler import AudioResampler as AudioResampler, AudioResamplerQuality as AudioResamplerQuality
    from .audio_source import AudioSource as AudioSource
    from .audio_stream import AudioStream as AudioStream
    from .data_channel import DataChannel as DataChannel
    from .data_stream import (
        ByteStreamInfo as ByteStreamInfo,
        ByteStreamReader as ByteStreamReader,
        ByteStreamWriter as ByteStreamWriter,
        TextStreamInfo as TextStreamInfo,
        TextStreamReader as TextStreamReader,
        TextStreamWriter as TextStreamWriter,
    )
    from .data_track import (
        DataTrackFrame as DataTrackFrame,
        DataTrackInfo as DataTrackInfo,
        DataTrackStream as DataTrackStream,
        LocalDataTrack as LocalDataTrack,
        RemoteDataTrack as RemoteDataTrack,
    )
    from .e2ee import E2EEManager as E2EEManager, E2EEOptions as E2EEOptions, KeyProviderOptions as KeyProviderOptions
    from .encoded_frames import EncodedFrame as EncodedFrame, EncodedFrameStream as EncodedFrameStream
    from .enums import (
        AudioTrackFeature as AudioTrackFeature,
        ConnectionQuality as ConnectionQuality,
        ConnectionState as ConnectionState,
        ContinualGatheringPolicy as ContinualGatheringPolicy,
        DataPacketKind as DataPacketKind,
        DegradationPreference as DegradationPreference,
        DisconnectReason as DisconnectReason,
        EncryptionState as EncryptionState,
        EncryptionType as EncryptionType,
        FrameMetadataFeature as FrameMetadataFeature,
        IceTransportType as IceTransportType,
        KeyDerivationFunction as KeyDerivationFunction,
        ParticipantKind as ParticipantKind,
        ParticipantKindDetail as ParticipantKindDetail,
        ParticipantState as ParticipantState,
        SimulateScenarioKind as SimulateScenarioKind,
        StreamState as StreamState,
        TrackKind as TrackKind,
        TrackSource as TrackSource,
        VideoBufferType as VideoBufferType,
        VideoCodec as VideoCodec,
        VideoEncoderBackend as VideoEncoderBackend,
        VideoQuality as VideoQuality,
        VideoRotation as VideoRotation,
    )
    from .errors import (
        ConnectError as ConnectError,
        MetadataError as MetadataError,
        PublishDataError as PublishDataError,
        PublishDataTrackError as PublishDataTrackError,
        PublishDTMFError as PublishDTMFError,
        PublishTrackError as PublishTrackError,
        PublishTranscriptionError as PublishTranscriptionError,
        PushFrameError as PushFrameError,
        RtcError as RtcError,
        StreamError as StreamError,
        SubscribeDataTrackError as SubscribeDataTrackError,
        UnpublishTrackError as UnpublishTrackError,
    )
    from .event_emitter import EventEmitter as EventEmitter
    from .frame_processor import FrameProcessor as FrameProcessor, NoiseCancellationOptions as NoiseCancellationOptions
    from .local_participant import LocalParticipant as LocalParticipant
    from .messages import (
        AudioEncoding as AudioEncoding,
        FrameMetadata as FrameMetadata,
        IceServer as IceServer,
        ParticipantTrackPermission as ParticipantTrackPermission,
        TrackPublishOptions as TrackPublishOptions,
        VideoEncoding as VideoEncoding,
    )
    from .participant import Participant as Participant, RemoteParticipant as RemoteParticipant
    from .peer_connection import PeerConnection as PeerConnection, PeerConnectionState as PeerConnectionState
    from .room import (
        DataPacket as DataPacket,
        DataStreamOptions as DataStreamOptions,
        Room as Room,
        RoomOptions as RoomOptions,
        RtcConfiguration as RtcConfiguration,
        RtcStats as RtcStats,
        SipDTMF as SipDTMF,
    )
    from .rpc import (
        RpcCallInfo as RpcCallInfo,
        RpcError as RpcError,
        RpcInterceptor as RpcInterceptor,
        RpcInvocationData as RpcInvocationData,
    )
    from .synchronizer import AVSynchronizer as AVSynchronizer
    from .track import (
        AudioTrack as AudioTrack,
        LocalAudioTrack as LocalAudioTrack,
        LocalTrack as LocalTrack,
        LocalVideoTrack as LocalVideoTrack,
        RemoteAudioTrack as RemoteAudioTrack,
        RemoteTrack as RemoteTrack,
        RemoteVideoTrack as RemoteVideoTrack,
        Track as Track,
        VideoTrack as VideoTrack,
    )
    from .track_publication import (
        LocalTrackPublication as LocalTrackPublication,
        RemoteTrackPublication as RemoteTrackPublication,
        TrackPublication as TrackPublication,
    )
    from .transceiver import Transceiver as Transceiver
    from .transcription import Transcription as Transcription, TranscriptionSegment as TranscriptionSegment
    from .utils import combine_audio_frames as combine_audio_frames, sine_wave_generator as sine_wave_generator
    from .video_frame import VideoFrame as VideoFrame, VideoFrameEvent as VideoFrameEvent
    from .video_source import VideoSource as VideoSource
    from .video_stream import VideoStream as VideoStream

_HOMES = {
    "audio_frame": ("AudioFrame", "AudioFrameEvent"),
    "audio_mixer": ("AudioMixer",),
    "audio_resampler": ("AudioResampler", "AudioResamplerQuality"),
    "audio_source": ("AudioSource",),
    "audio_stream": ("AudioStream",),
    "data_channel": ("DataChannel",),
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
    "encoded_frames": ("EncodedFrame", "EncodedFrameStream"),
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
    "peer_connection": ("PeerConnection", "PeerConnectionState"),
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
    "transceiver": ("Transceiver",),
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
