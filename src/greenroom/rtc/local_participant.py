"""Ourselves in the room: what a program publishes, sends and calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from livekit.protocol import models, rtc as proto

from . import stream_sender
from .data_stream import ByteStreamInfo, ByteStreamWriter, TextStreamInfo, TextStreamWriter, open_writer
from .data_track import LocalDataTrack
from .errors import (
    ConnectError,
    MetadataError,
    PublishDataError,
    PublishDTMFError,
    PublishTranscriptionError,
    StreamError,
)
from .messages import ParticipantTrackPermission, TrackPublishOptions
from .participant import Participant, ParticipantCore
from .rpc import RpcCallInfo, RpcHandler, RpcInterceptor
from .rpc_manager import RpcManager
from .session import REQUEST_TIMEOUT
from .track import LocalTrack
from .track_publication import LocalPublicationCore, LocalTrackPublication
from .track_publisher import TrackPublisher
from .transcription import Transcription
from .views import Views

if TYPE_CHECKING:
    from .room_core import RoomCore

CAPTION_TRACK = "lk.transcribed_track_id"
MAX_DATA_SIZE = 64_000
"""Bytes in one data packet: what every client accepts."""
F = TypeVar("F", bound=Callable[..., Any])


class LocalParticipantCore(ParticipantCore[LocalPublicationCore]):
    """Ourselves: what we publish, what we send, whom we call and who calls us."""

    view: LocalParticipant

    def __init__(self, info: models.ParticipantInfo, room: RoomCore) -> None:
        super().__init__(info)
        self.room = room
        self.view = LocalParticipant(self)
        self.tracks = TrackPublisher(room, self.view, self.publications)
        self.rpc = RpcManager(self, room.streams)

    async def send_packet(self, packet: models.DataPacket, *, reliable: bool = True) -> None:
        """PublishDataError when it cannot be sent."""
        session = self.room.session or self.room.parting
        if session is None:
            raise PublishDataError("cannot send: the room is not connected")
        try:
            await session.send_packet(packet, reliable=reliable)
        except ConnectError as error:
            raise PublishDataError(f"cannot send: {error.message}") from None

    async def send_stream_packet(self, packet: models.DataPacket) -> None:
        """StreamError when it cannot be sent."""
        try:
            await self.send_packet(packet)
        except PublishDataError as error:
            raise StreamError(error.message) from None


class LocalParticipant(Participant):
    _core: LocalParticipantCore

    def __init__(self, core: LocalParticipantCore) -> None:
        super().__init__(core)
        self._track_publications = Views(core.publications)

    @property
    def track_publications(self) -> Mapping[str, LocalTrackPublication]:
        return self._track_publications

    @property
    def _rpc_handlers(self) -> dict[str, RpcHandler]:
        """Private in the official package too; its agents look here."""
        return self._core.rpc.handlers

    # --- tracks ----------------------------------------------------------------------------------------------------

    async def publish_track(
        self, track: LocalTrack, options: TrackPublishOptions | None = None
    ) -> LocalTrackPublication:
        """Publish and wait until the server has answered. A track is published once at a time.

        Raises:
            PublishTrackError: refused, not connected, or no answer within 10 s.
        """
        return (await self._core.tracks.publish(track, options)).view

    async def unpublish_track(self, track_sid: str) -> None:
        """UnpublishTrackError when there is no such publication."""
        self._core.tracks.unpublish(track_sid)

    def set_track_subscription_permissions(
        self,
        *,
        allow_all_participants: bool,
        participant_permissions: list[ParticipantTrackPermission] | None = None,
    ) -> None:
        """Who may subscribe to our tracks, until it is said anew: also after a full reconnect, in which the sids of
        `allowed_track_sids` go on to mean the same tracks."""
        self._core.tracks.set_permissions(allow_all_participants, participant_permissions or [])

    # --- data ------------------------------------------------------------------------------------------------------

    async def publish_data(
        self,
        payload: bytes | str,
        *,
        reliable: bool = True,
        destination_identities: list[str] | None = None,
        topic: str = "",
    ) -> None:
        """Send one message, to all or to some. PublishDataError when it cannot be sent or exceeds 64,000 bytes."""
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        if len(data) > MAX_DATA_SIZE:
            raise PublishDataError(
                f"a data message holds {MAX_DATA_SIZE} bytes, not {len(data)}: use send_bytes for more"
            )
        user = models.UserPacket(
            payload=data, participant_sid=self.sid, participant_identity=self.identity, topic=topic
        )
        await self._core.send_packet(
            models.DataPacket(
                kind=models.DataPacket.RELIABLE if reliable else models.DataPacket.LOSSY,
                participant_identity=self.identity,
                destination_identities=destination_identities or [],
                user=user,
            ),
            reliable=reliable,
        )

    async def publish_dtmf(self, *, code: int, digit: str) -> None:
        """Send a telephone key press to SIP participants."""
        packet = models.DataPacket(
            kind=models.DataPacket.RELIABLE,
            participant_identity=self.identity,
            sip_dtmf=models.SipDTMF(code=code, digit=digit),
        )
        try:
            await self._core.send_packet(packet)
        except PublishDataError as error:
            raise PublishDTMFError(error.message) from None

    async def publish_transcription(self, transcription: Transcription) -> None:
        """Send what was said on a track. PublishTranscriptionError when it cannot be sent, or names no track."""
        if not transcription.track_sid.startswith("TR_"):
            # Other clients take the sid for granted; the official native ones abort on an invalid one.
            raise PublishTranscriptionError(
                f"a transcription belongs to a track (TR_...), not {transcription.track_sid!r}"
            )
        segments = [
            models.TranscriptionSegment(
                id=s.id, text=s.text, start_time=s.start_time, end_time=s.end_time, final=s.final, language=s.language
            )
            for s in transcription.segments
        ]
        packet = models.DataPacket(
            kind=models.DataPacket.RELIABLE,
            participant_identity=self.identity,
            transcription=models.Transcription(
                transcribed_participant_identity=transcription.participant_identity,
                track_id=self._core.tracks.current_sid(transcription.track_sid),
                segments=segments,
            ),
        )
        try:
            await self._core.send_packet(packet)
        except PublishDataError as error:
            raise PublishTranscriptionError(error.message) from None

    async def stream_text(
        self,
        *,
        destination_identities: list[str] | None = None,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        reply_to_id: str | None = None,
        total_size: int | None = None,
        sender_identity: str | None = None,
    ) -> TextStreamWriter:
        """Open a text stream. `total_size` in bytes of UTF-8, when known. Close the writer to end it."""
        return await open_writer(
            TextStreamWriter(
                self,
                topic=topic,
                attributes=self._caption_attributes(attributes),
                stream_id=stream_id,
                total_size=total_size,
                reply_to_id=reply_to_id,
                destination_identities=destination_identities,
                sender_identity=sender_identity,
            )
        )

    async def send_text(
        self,
        text: str,
        *,
        destination_identities: list[str] | None = None,
        topic: str = "",
        attributes: dict[str, str] | None = None,
        reply_to_id: str | None = None,
        compress: bool = True,
    ) -> TextStreamInfo:
        """Send a whole text; in one packet when all receivers can take it so."""
        return await stream_sender.send_text(
            self._core,
            text,
            destination_identities=destination_identities,
            topic=topic,
            attributes=self._caption_attributes(attributes),
            reply_to_id=reply_to_id,
            compress=compress,
        )

    def _caption_attributes(self, attributes: dict[str, str] | None) -> dict[str, str] | None:
        """A caption names the track that it belongs to."""
        if attributes is None or CAPTION_TRACK not in attributes:
            return attributes
        return {**attributes, CAPTION_TRACK: self._core.tracks.current_sid(attributes[CAPTION_TRACK])}

    async def stream_bytes(
        self,
        name: str,
        *,
        total_size: int | None = None,
        mime_type: str = "application/octet-stream",
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        destination_identities: list[str] | None = None,
        topic: str = "",
    ) -> ByteStreamWriter:
        """Open a byte stream. Close the writer to end it."""
        return await open_writer(
            ByteStreamWriter(
                self,
                name=name,
                topic=topic,
                attributes=attributes,
                stream_id=stream_id,
                total_size=total_size,
                mime_type=mime_type,
                destination_identities=destination_identities,
            )
        )

    async def send_bytes(
        self,
        data: bytes,
        *,
        topic: str = "",
        name: str | None = None,
        mime_type: str | None = None,
        destination_identities: list[str] | None = None,
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        compress: bool = True,
    ) -> ByteStreamInfo:
        """Send bytes as a whole stream."""
        return await stream_sender.send_bytes(
            self._core,
            data,
            name=name or "unknown",
            mime_type=mime_type or "application/octet-stream",
            topic=topic,
            destination_identities=destination_identities,
            attributes=attributes,
            stream_id=stream_id,
            compress=compress,
        )

    async def send_file(
        self,
        file_path: str,
        *,
        topic: str = "",
        destination_identities: list[str] | None = None,
        attributes: dict[str, str] | None = None,
        stream_id: str | None = None,
        compress: bool = True,
    ) -> ByteStreamInfo:
        """Send a file as a byte stream with its name and type. OSError when it cannot be read."""
        return await stream_sender.send_file(
            self._core,
            file_path,
            topic=topic,
            destination_identities=destination_identities,
            attributes=attributes,
            stream_id=stream_id,
            compress=compress,
        )

    async def publish_data_track(self, *, name: str) -> LocalDataTrack:
        """Publish a track of small, fresh, unreliable frames. PublishDataTrackError when refused."""
        return await self._core.room.data_tracks.publish(name)

    # --- calls -----------------------------------------------------------------------------------------------------

    async def perform_rpc(
        self,
        *,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
        max_round_trip_latency: float | None = None,
    ) -> str:
        """Call a method of another participant. Seconds; default 15 for the response, 7 for its acknowledgement.

        Raises:
            RpcError: what the handler raised, or a built-in code.
        """
        return await self._core.rpc.perform(
            RpcCallInfo(destination_identity, method, payload, response_timeout, max_round_trip_latency)
        )

    def register_rpc_method(self, method_name: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Answer calls of `method_name` with `handler(RpcInvocationData) -> str`, sync or async. Also a decorator."""
        if handler is not None:
            self._core.rpc.handlers[method_name] = handler
            return handler

        def decorator(function: F) -> F:
            self._core.rpc.handlers[method_name] = function
            return function

        return decorator

    def unregister_rpc_method(self, method: str) -> None:
        self._core.rpc.handlers.pop(method, None)

    def add_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        self._core.rpc.interceptors.append(interceptor)

    def remove_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        if interceptor in self._core.rpc.interceptors:
            self._core.rpc.interceptors.remove(interceptor)

    # --- ourselves -------------------------------------------------------------------------------------------------

    async def set_metadata(self, metadata: str) -> None:
        """MetadataError when the token does not allow it, or nothing comes back within 5 s.

        Only what was changed is sent. An empty value means "unchanged" in the protocol (`UpdateParticipantMetadata`), so
        metadata that is there cannot be taken away like this: MetadataError, too.
        """
        self._refuse_clearing("metadata", metadata, self.metadata)
        await self._update(metadata=metadata)

    async def set_name(self, name: str) -> None:
        """MetadataError as for `set_metadata`."""
        self._refuse_clearing("name", name, self.name)
        await self._update(name=name)

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        """Change some attributes; an empty value removes one. MetadataError as for `set_metadata`."""
        await self._update(attributes=attributes)

    @staticmethod
    def _refuse_clearing(what: str, value: str, known: str) -> None:
        if not value and known:
            raise MetadataError(
                f"the {what} cannot be emptied by a participant: use UpdateParticipant of the server's API"
            )

    async def _update(self, *, metadata: str = "", name: str = "", attributes: dict[str, str] | None = None) -> None:
        session = self._core.room.session
        if session is None or session.closed:
            raise MetadataError("cannot change anything: the room is not connected")
        request_id = session.next_request_id()
        answer = session.expect(request_id)
        session.send(
            proto.SignalRequest(
                update_metadata=proto.UpdateParticipantMetadata(
                    metadata=metadata, name=name, attributes=attributes or {}, request_id=request_id
                )
            )
        )
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await answer
        except TimeoutError:
            raise MetadataError(f"the server did not answer within {REQUEST_TIMEOUT:g} s") from None
        except ConnectError as error:
            raise MetadataError(error.message) from None
        finally:
            session.forget(request_id)

    def __repr__(self) -> str:
        return f"rtc.LocalParticipant(sid={self.sid}, identity={self.identity}, name={self.name})"
