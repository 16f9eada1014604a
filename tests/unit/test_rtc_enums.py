"""Enumerations answer like protobuf wrappers, and their values are those on the wire."""

import pytest

from greenroom import rtc


def test_protobuf_helpers() -> None:
    assert rtc.TrackKind.Name(1) == "KIND_AUDIO"
    assert rtc.TrackKind.Value("KIND_VIDEO") == 2
    assert rtc.TrackKind.keys() == ["KIND_UNKNOWN", "KIND_AUDIO", "KIND_VIDEO"]
    assert rtc.TrackKind.values() == [0, 1, 2]
    assert dict(rtc.TrackKind.items()) == {"KIND_UNKNOWN": 0, "KIND_AUDIO": 1, "KIND_VIDEO": 2}
    assert isinstance(rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.ValueType)


def test_aliases_are_the_same_values() -> None:
    assert rtc.TrackKind.AUDIO is rtc.TrackKind.KIND_AUDIO
    assert rtc.TrackKind.VIDEO is rtc.TrackKind.KIND_VIDEO
    assert rtc.TrackSource.MICROPHONE is rtc.TrackSource.SOURCE_MICROPHONE
    assert rtc.TrackKind.Value("AUDIO") == 1


def test_they_print_as_numbers() -> None:
    assert f"{rtc.TrackKind.KIND_AUDIO}" == "1"


def test_unknown_names_and_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match="no value"):
        rtc.TrackKind.Value("KIND_SMELL")
    with pytest.raises(ValueError):
        rtc.TrackKind.Name(99)


@pytest.mark.parametrize(
    "name",
    [
        "ConnectionState",
        "DataPacketKind",
        "IceTransportType",
        "ContinualGatheringPolicy",
        "EncryptionType",
        "EncryptionState",
        "KeyDerivationFunction",
        "StreamState",
        "TrackKind",
        "TrackSource",
        "FrameMetadataFeature",
        "VideoBufferType",
        "VideoRotation",
        "VideoQuality",
        "VideoCodec",
        "VideoEncoderBackend",
        "ParticipantKind",
        "ParticipantKindDetail",
        "ParticipantState",
        "DisconnectReason",
        "SimulateScenarioKind",
    ],
)
def test_same_members_as_the_official_package(name: str) -> None:
    official = pytest.importorskip("livekit.rtc")
    ours = {key: int(value) for key, value in getattr(rtc, name).items()}
    assert ours == dict(getattr(official, name).items())


@pytest.mark.parametrize("name", ["ConnectionQuality", "DegradationPreference"])
def test_same_members_as_the_official_int_enums(name: str) -> None:
    official = pytest.importorskip("livekit.rtc")
    assert {m.name: int(m) for m in getattr(rtc, name)} == {m.name: int(m) for m in getattr(official, name)}
