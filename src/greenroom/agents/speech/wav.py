"""WAV files as they are found: PCM of 8 to 32 bits and floating point, also in the extensible header that Python's `wave`
does not read everywhere."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["WavError", "WavReader"]

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMATS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x50: "MPEG audio", 0x55: "MP3"}
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the two bytes of a format in an extensible header, when they are a format's at all."""
MAX_HEADER = 4096
"""Bytes of a format chunk that are read; those that can be understood need 40."""
SKIP_BYTES = 1 << 16


class WavError(ValueError):
    """A file that is no WAV, or holds what cannot be read. The text says which, without the file's name."""


class WavReader:
    """Reads a recording in blocks, from a file or a pipe. A length in the header that is too large reads to the end."""

    def __init__(self, source: Path | BinaryIO) -> None:
        """`source`: a stream is left open at the end. Raises WavError, and OSError for a file that cannot be opened."""
        self._owned = isinstance(source, Path)
        self._file: BinaryIO = source.open("rb") if isinstance(source, Path) else source
        try:
            self._left = self._read_header()
        except BaseException:
            self.close()
            raise

    rate: int
    """Hz."""
    channels: int
    width: int
    """Bytes of a sample."""

    def read(self, frames: int) -> NDArray[np.int16]:
        """Up to so many frames, the channels mixed to one; none at the end. A last frame that is not whole is left out."""
        size = self.width * self.channels
        data = self._file.read(min(frames * size, self._left))
        self._left -= len(data)
        samples = self._samples(data[: len(data) - len(data) % size])
        mono = samples.reshape(-1, self.channels).mean(axis=1)
        pcm: NDArray[np.int16] = np.clip(np.rint(mono * 32_768), -32_768, 32_767).astype(np.int16)
        return pcm

    def close(self) -> None:
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_header(self) -> int:
        """Up to the samples. Returns their bytes."""
        riff = self._exactly(12)
        if riff[:4] != b"RIFF":
            raise WavError("file does not start with RIFF id")
        if riff[8:] != b"WAVE":
            raise WavError("not a WAVE file")
        known = False
        while True:
            name, size = struct.unpack("<4sI", self._exactly(8))
            if name == b"data":
                if not known:
                    raise WavError("its samples come before their format")
                return int(size)
            if name == b"fmt ":
                self._read_format(self._exactly(min(size, MAX_HEADER)))
                known = True
                size -= min(size, MAX_HEADER)
            self._skip(size + size % 2)

    def _read_format(self, chunk: bytes) -> None:
        if len(chunk) < 16:
            raise WavError("its header is too short")
        code, self.channels, self.rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if code == EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == GUID_TAIL:
            (code,) = struct.unpack_from("<H", chunk, 24)
        self.width, self._float = (bits + 7) // 8, code == FLOAT
        if code not in (PCM, FLOAT):
            name = FORMATS.get(code, f"of the unknown format {code}")
            raise WavError(f"its samples are {name}; convert it to 16-bit PCM (ffmpeg -i FILE -c:a pcm_s16le NEW.wav)")
        if not self.channels:
            raise WavError("it has no channels")
        if not self.rate:
            raise WavError("a sample rate of 0 Hz")
        if self.width not in ((4, 8) if self._float else (1, 2, 3, 4)):
            raise WavError(f"{bits}-bit {'floating-point ' if self._float else ''}samples cannot be read")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise WavError("it ends before its header does")
        return data

    def _skip(self, count: int) -> None:
        """A pipe cannot seek."""
        while count > 0:
            count -= len(self._exactly(min(count, SKIP_BYTES)))

    def _samples(self, data: bytes) -> NDArray[np.float32]:
        """-1..1."""
        if self._float:
            return np.nan_to_num(np.frombuffer(data, f"<f{self.width}").astype(np.float32))
        if self.width == 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
        if self.width == 3:
            three = np.frombuffer(data, np.uint8).reshape(-1, 3)
            wide = np.zeros((len(three), 4), np.uint8)
            wide[:, 1:] = three
            return wide.view("<i4").ravel().astype(np.float32) / np.float32(2**31)
        return np.frombuffer(data, f"<i{self.width}").astype(np.float32) / np.float32(2 ** (8 * self.width - 1))
