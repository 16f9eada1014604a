"""Exceptions of the SDK. Each carries `message`, one sentence that says what failed and why."""

from __future__ import annotations


class RtcError(Exception):
    """Base of the SDK's own errors."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConnectError(RtcError):
    """`Room.connect` failed. `status` is the HTTP status when the server answered with one, else 0."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class PublishTrackError(RtcError): ...


class UnpublishTrackError(RtcError): ...


class PublishDataError(RtcError): ...


class PublishDTMFError(RtcError): ...


class PublishTranscriptionError(RtcError): ...


class PublishDataTrackError(RtcError): ...


class PushFrameError(RtcError): ...


class SubscribeDataTrackError(RtcError): ...


class MetadataError(RtcError):
    """The server refused a change of metadata, name or attributes, or did not answer within 5 s."""


class StreamError(ConnectionError):
    """A data stream broke: the sender left, closed it abnormally, or sent something that cannot be assembled."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description
