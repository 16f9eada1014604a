"""Frames of PCM audio."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

BYTES_PER_SAMPLE = 2


class AudioFrame:
    """Signed 16-bit PCM, interleaved by channel, in the machine's byte order.

    Args:
        data: at least `num_channels * samples_per_channel * 2` bytes, an even number of them.
        sample_rate: samples per second and channel, in Hz.
        userdata: anything the program wants to carry along; never sent.

    Raises:
        ValueError: `data` is too short or has an odd length.
    """

    __slots__ = ("_data", "_num_channels", "_sample_rate", "_samples_per_channel", "_userdata")

    def __init__(
        self,
        data: Buffer,
        sample_rate: int,
        num_channels: int,
        samples_per_channel: int,
        *,
        userdata: dict[str, Any] | None = None,
    ) -> None:
        size = memoryview(data).nbytes
        if size < num_channels * samples_per_channel * BYTES_PER_SAMPLE:
            raise ValueError("data length must be >= num_channels * samples_per_channel * sizeof(int16)")
        if size % BYTES_PER_SAMPLE:
            raise ValueError("data length must be a multiple of sizeof(int16)")
        self._data = data
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self._samples_per_channel = samples_per_channel
        self._userdata = userdata

    @staticmethod
    def create(sample_rate: int, num_channels: int, samples_per_channel: int) -> AudioFrame:
        """A frame of silence whose `data` may be written to."""
        size = num_channels * samples_per_channel * BYTES_PER_SAMPLE
        return AudioFrame(bytearray(size), sample_rate, num_channels, samples_per_channel)

    @property
    def data(self) -> memoryview:
        """The samples as a memoryview of int16; writable when the underlying buffer is."""
        return memoryview(self._data).cast("B").cast("h")

    @property
    def userdata(self) -> dict[str, Any]:
        if self._userdata is None:
            self._userdata = {}
        return self._userdata

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    @property
    def num_channels(self) -> int:
        return self._num_channels

    @property
    def samples_per_channel(self) -> int:
        return self._samples_per_channel

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self._samples_per_channel / self._sample_rate

    def to_wav_bytes(self) -> bytes:
        """The frame as a WAV file."""
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(self._num_channels)
            file.setsampwidth(BYTES_PER_SAMPLE)
            file.setframerate(self._sample_rate)
            file.writeframes(memoryview(self._data).cast("B"))
        return out.getvalue()

    def __repr__(self) -> str:
        return (
            f"rtc.AudioFrame(sample_rate={self._sample_rate}, num_channels={self._num_channels}, "
            f"samples_per_channel={self._samples_per_channel}, duration={self.duration:.3f})"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        """Lets a pydantic model hold a frame; in JSON the samples are base64."""
        from pydantic_core import core_schema

        def parse(value: Any) -> AudioFrame:
            if isinstance(value, AudioFrame):
                return value
            if isinstance(value, dict):
                return AudioFrame(
                    base64.b64decode(value["data"]),
                    value["sample_rate"],
                    value["num_channels"],
                    value["samples_per_channel"],
                )
            raise TypeError("not an AudioFrame")

        def dump(frame: AudioFrame) -> dict[str, Any]:
            return {
                "data": base64.b64encode(frame.data).decode(),
                "sample_rate": frame.sample_rate,
                "num_channels": frame.num_channels,
                "samples_per_channel": frame.samples_per_channel,
            }

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(dump)
        )


@dataclass(slots=True)
class AudioFrameEvent:
    """What an `AudioStream` yields."""

    frame: AudioFrame
