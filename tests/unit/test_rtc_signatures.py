"""Public names take the arguments that programs written for the official package pass."""

import inspect

import pytest

from greenroom import rtc

official = pytest.importorskip("livekit.rtc")

NOT_HERE = {
    "AudioDeviceInfo",
    "AudioFilter",
    "AudioProcessingModule",
    "EncodedFrameType",
    "EncodedRateControl",
    "EncodedVideoFrame",
    "EncodedVideoSource",
    "EncodedVideoSourceFeedback",
    "FrameCryptor",
    "KeyProvider",
    "MediaDevices",
    "PlatformAudio",
    "PlatformAudioError",
    "PlatformAudioOptions",
    "PlatformAudioSource",
}
"""Devices, audio processing, encoded video and frame encryption; docs/rtc.md names them too."""

INTERNAL = {
    # Made by the SDK itself, with arguments of its own.
    "AVSynchronizer",
    "DataTrackStream",
    "E2EEManager",
    "LocalAudioTrack",
    "LocalDataTrack",
    "LocalParticipant",
    "LocalTrackPublication",
    "LocalVideoTrack",
    "Participant",
    "RemoteAudioTrack",
    "RemoteDataTrack",
    "RemoteParticipant",
    "RemoteTrackPublication",
    "RemoteVideoTrack",
    "TextStreamReader",
    "ByteStreamReader",
    "Track",
    "TrackPublication",
}


def test_every_official_name_is_here_or_named_as_missing() -> None:
    assert {name for name in official.__all__ if not hasattr(rtc, name)} == NOT_HERE


def _parameters(function: object) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    return {name: p for name, p in parameters.items() if name not in ("self", "kwargs") and not name.startswith("_")}


def _methods() -> list[tuple[str, str]]:
    found = []
    for name in official.__all__:
        cls = getattr(official, name)
        if not inspect.isclass(cls) or name in NOT_HERE or hasattr(cls, "DESCRIPTOR"):
            continue
        if name not in INTERNAL and "__init__" in vars(cls):
            found.append((name, "__init__"))
        found += [
            (name, method)
            for method, value in vars(cls).items()
            if not method.startswith("_")
            and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))
        ]
    return found


@pytest.mark.parametrize(("cls", "method"), _methods())
def test_method_takes_the_same_arguments(cls: str, method: str) -> None:
    theirs = getattr(getattr(official, cls), method)
    ours = getattr(getattr(rtc, cls), method)
    wanted, given = _parameters(theirs), _parameters(ours)
    missing = [name for name in wanted if name not in given]
    assert not missing, f"{cls}.{method} lacks {missing}"
    for name, parameter in wanted.items():
        if parameter.default is inspect.Parameter.empty:
            assert given[name].kind is parameter.kind or given[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        elif isinstance(parameter.default, int | float | str | bytes | bool):
            assert given[name].default == parameter.default, f"{cls}.{method}({name})"
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize(
    "cls",
    [
        "Room",
        "Participant",
        "RemoteParticipant",
        "LocalParticipant",
        "Track",
        "TrackPublication",
        "AudioSource",
        "AudioFrame",
        "VideoFrame",
    ],
)
def test_properties(cls: str) -> None:
    theirs = {name for name, value in vars(getattr(official, cls)).items() if isinstance(value, property)}
    assert {name for name in theirs if not hasattr(getattr(rtc, cls), name)} == set()


def test_publish_options_have_the_same_fields() -> None:
    fields = [field.name for field in official.TrackPublishOptions.DESCRIPTOR.fields]
    assert list(rtc.TrackPublishOptions.FIELDS) == fields
