"""Audio and video frames: sizes, planes, WAV, pydantic, helpers."""

import io
import math
import wave

import pydantic
import pytest

from greenroom import rtc


def test_audio_frame_sizes() -> None:
    frame = rtc.AudioFrame.create(48000, 2, 480)
    assert (len(frame.data), frame.data.format, frame.duration) == (960, "h", 0.01)
    frame.data[0] = -5
    assert frame.data[0] == -5
    with pytest.raises(ValueError, match="must be >="):
        rtc.AudioFrame(b"\0\0", 48000, 1, 2)
    with pytest.raises(ValueError, match="multiple"):
        rtc.AudioFrame(b"\0\0\0", 48000, 1, 1)


def test_audio_frame_from_numpy_and_memoryview() -> None:
    numpy = pytest.importorskip("numpy")
    samples = numpy.arange(480, dtype=numpy.int16)
    for data in (samples, memoryview(samples), samples.tobytes()):
        assert rtc.AudioFrame(data, 48000, 1, 480).data[479] == 479


def test_wav() -> None:
    frame = rtc.AudioFrame.create(16000, 1, 160)
    with wave.open(io.BytesIO(frame.to_wav_bytes())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 160)


def test_pydantic_models_hold_frames() -> None:
    class Model(pydantic.BaseModel):
        audio: rtc.AudioFrame
        video: rtc.VideoFrame

    model = Model(
        audio=rtc.AudioFrame(bytes(range(4)), 8000, 1, 2),
        video=rtc.VideoFrame(2, 2, rtc.VideoBufferType.RGB24, bytes(range(12))),
    )
    again = Model.model_validate_json(model.model_dump_json())
    assert bytes(again.audio.data) == bytes(range(4))
    assert bytes(again.video.data) == bytes(range(12))


@pytest.mark.parametrize(
    ("type", "size"),
    [("RGBA", 1228800), ("RGB24", 921600), ("I420", 460800), ("I420A", 768000), ("I422", 614400), ("I444", 921600),
     ("I010", 921600), ("NV12", 460800)],
)  # fmt: skip
def test_video_frame_sizes_of_640_480(type: str, size: int) -> None:
    kind = rtc.VideoBufferType.Value(type)
    frame = rtc.VideoFrame(640, 480, kind, bytes(size))
    planes = []
    while (plane := frame.get_plane(len(planes))) is not None:
        planes.append(plane.nbytes)
    assert sum(planes) == size
    with pytest.raises(ValueError, match=f"needs {size} bytes"):
        rtc.VideoFrame(640, 480, kind, bytes(size - 1))


def test_odd_sizes_round_chroma_up() -> None:
    frame = rtc.VideoFrame(3, 3, rtc.VideoBufferType.I420, bytes(9 + 4 + 4))
    assert [frame.get_plane(i).nbytes for i in range(3)] == [9, 4, 4]  # type: ignore[union-attr]
    assert frame.get_plane(3) is None
    with pytest.raises(ValueError):
        rtc.VideoFrame(0, 3, rtc.VideoBufferType.I420, b"")


async def test_sine_wave_and_combining() -> None:
    frames = [frame async for frame in rtc.utils.sine_wave_generator(440, 0.1)]
    assert len(frames) == 10
    whole = rtc.combine_audio_frames(frames)
    assert whole.samples_per_channel == 4800
    peak = max(whole.data)
    assert math.isclose(peak, 0.3 * 32767, rel_tol=0.01)
    crossings = sum(a < 0 <= b for a, b in zip(whole.data, whole.data[1:], strict=False))
    assert crossings in (43, 44)


def test_combining_refuses_what_does_not_fit() -> None:
    a, b, c = (rtc.AudioFrame.create(*args) for args in ((48000, 1, 10), (16000, 1, 10), (48000, 2, 10)))
    with pytest.raises(ValueError, match="Sample rate mismatch"):
        rtc.combine_audio_frames([a, b])
    with pytest.raises(ValueError, match="Channel count mismatch"):
        rtc.combine_audio_frames([a, c])
    with pytest.raises(ValueError, match="empty"):
        rtc.combine_audio_frames([])
    assert rtc.combine_audio_frames(a) is a
