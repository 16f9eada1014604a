"""Frames of raw video."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .enums import VideoBufferType, VideoRotation
from .messages import FrameMetadata

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PACKED = {
    VideoBufferType.RGBA: 4,
    VideoBufferType.ABGR: 4,
    VideoBufferType.ARGB: 4,
    VideoBufferType.BGRA: 4,
    VideoBufferType.RGB24: 3,
}


def plane_sizes(width: int, height: int, type: int) -> list[int]:
    """Bytes of each plane. Chroma of odd sizes is rounded up. ValueError for an unknown type or a size below 1."""
    if width < 1 or height < 1:
        raise ValueError(f"a frame needs a width and a height of at least 1, not {width}x{height}")
    if type in _PACKED:
        return [width * height * _PACKED[type]]  # type: ignore[index]
    luma = width * height
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    quarter = half_width * half_height
    match type:
        case VideoBufferType.I420:
            return [luma, quarter, quarter]
        case VideoBufferType.I420A:
            return [luma, quarter, quarter, luma]
        case VideoBufferType.I422:
            return [luma, half_width * height, half_width * height]
        case VideoBufferType.I444:
            return [luma, luma, luma]
        case VideoBufferType.I010:
            return [luma * 2, quarter * 2, quarter * 2]
        case VideoBufferType.NV12:
            return [luma, quarter * 2]
    raise ValueError(f"unknown video buffer type {type}")


class VideoFrame:
    """A picture with tightly packed planes, one after the other.

    RGBA, BGRA, ARGB, ABGR and RGB24 name the order of the bytes in memory.

    Raises:
        ValueError: `data` is shorter than the planes of `type` need.
    """

    __slots__ = ("_data", "_height", "_type", "_width")

    def __init__(self, width: int, height: int, type: int, data: Buffer) -> None:
        needed = sum(plane_sizes(width, height, type))
        size = memoryview(data).nbytes
        if size < needed:
            name = VideoBufferType(type).name
            raise ValueError(f"a {width}x{height} {name} frame needs {needed} bytes of data, got {size}")
        self._width = width
        self._height = height
        self._type = VideoBufferType(type)
        self._data = data

    @property
    def width(self) -> int:
        return self._width

    @property
    def height(self) -> int:
        return self._height

    @property
    def type(self) -> VideoBufferType:
        return self._type

    @property
    def data(self) -> memoryview:
        """All planes as a memoryview of bytes; writable when the underlying buffer is."""
        return memoryview(self._data).cast("B")

    def get_plane(self, plane_nth: int) -> memoryview | None:
        """Plane `plane_nth` (Y, U, V, then alpha; or UV), without copying. None when there is no such plane."""
        sizes = plane_sizes(self._width, self._height, self._type)
        if not 0 <= plane_nth < len(sizes):
            return None
        start = sum(sizes[:plane_nth])
        return self.data[start : start + sizes[plane_nth]]

    def convert(self, type: int, *, flip_y: bool = False) -> VideoFrame:
        """The same picture in another layout, every pair of types; `flip_y` turns it upside down."""
        from greenroom import _native

        data = self.data[: sum(plane_sizes(self._width, self._height, self._type))]
        converted = _native.convert_video(data, self._width, self._height, int(self._type), int(type), flip_y)
        return VideoFrame(self._width, self._height, type, converted)

    def __repr__(self) -> str:
        return f"rtc.VideoFrame(width={self._width}, height={self._height}, type={self._type.name})"

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        """Lets a pydantic model hold a frame; in JSON the planes are base64."""
        from pydantic_core import core_schema

        def parse(value: Any) -> VideoFrame:
            if isinstance(value, VideoFrame):
                return value
            if isinstance(value, dict):
                return VideoFrame(value["width"], value["height"], value["type"], base64.b64decode(value["data"]))
            raise TypeError("not a VideoFrame")

        def dump(frame: VideoFrame) -> dict[str, Any]:
            return {
                "width": frame.width,
                "height": frame.height,
                "type": int(frame.type),
                "data": base64.b64encode(frame.data).decode(),
            }

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(dump)
        )


@dataclass(slots=True)
class VideoFrameEvent:
    """What a `VideoStream` yields. `timestamp_us`: capture time on the sender's media clock, in microseconds. `metadata`: what
    the sender says about this picture; None when it says nothing."""

    frame: VideoFrame
    timestamp_us: int
    rotation: VideoRotation
    metadata: FrameMetadata | None = None
