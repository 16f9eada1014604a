"""Changing the sample rate of a stream of frames."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from .audio_frame import BYTES_PER_SAMPLE, AudioFrame

if TYPE_CHECKING:
    from typing_extensions import Buffer


class AudioResamplerQuality(StrEnum):
    """Accepted for compatibility; the one native resampler (windowed sinc) is of high quality and fast."""

    QUICK = "quick"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    VERY_HIGH = "very_high"


class AudioResampler:
    """Push frames or bytes of int16 PCM, get frames at `output_rate`. Keeps state between pushes."""

    def __init__(
        self,
        input_rate: int,
        output_rate: int,
        *,
        num_channels: int = 1,
        quality: AudioResamplerQuality = AudioResamplerQuality.MEDIUM,
    ) -> None:
        from greenroom import _native

        self._input_rate = input_rate
        self._output_rate = output_rate
        self._num_channels = num_channels
        self._quality = AudioResamplerQuality(quality)
        self._native = _native.Resampler(input_rate, output_rate, num_channels)

    def push(self, data: bytearray | Buffer | AudioFrame) -> list[AudioFrame]:
        """The frames that are ready; possibly none. ValueError when the frame's rate or channels do not fit."""
        if isinstance(data, AudioFrame):
            if data.sample_rate != self._input_rate or data.num_channels != self._num_channels:
                raise ValueError(
                    f"this resampler takes {self._input_rate} Hz with {self._num_channels} channel(s), the frame has "
                    f"{data.sample_rate} Hz with {data.num_channels}"
                )
            data = data.data[: data.samples_per_channel * data.num_channels]
        return self._frames(self._native.push(data))

    def flush(self) -> list[AudioFrame]:
        """What is left, at the end of the stream."""
        return self._frames(self._native.flush())

    def _frames(self, pcm: bytes) -> list[AudioFrame]:
        samples = len(pcm) // (BYTES_PER_SAMPLE * self._num_channels)
        if not samples:
            return []
        return [AudioFrame(bytearray(pcm), self._output_rate, self._num_channels, samples)]
