"""Ourselves in the room: publishing tracks, sending data, calling others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from livekit.protocol import models, rtc as proto

from . import stream_sender
from .data_stream import ByteStreamInfo, ByteStreamWriter, TextStreamInfo, TextStreamWriter
from .data_track import LocalDataTrack
from .errors import (
    ConnectError,
    MetadataError,
    PublishDataError,
    PublishDTMFError,
    PublishTrackError,
    PublishTranscriptionError,
    StreamError,
    UnpublishTrackError,
)
from .log import logger
from .messages import ParticipantTrackPermission, TrackPublishOptions
from .participant import Participant, RemoteParticipant
from .publishing import add_track_request, audio_bitrate, codec_name, layers_of
from .rpc import RpcCallInfo, RpcHandler, RpcInterceptor
from .rpc_manager import RpcManager
from .session import REQUEST_TIMEOUT
from .track import LocalAudioTrack, LocalTrack, LocalVideoTrack
from .track_publication import LocalTrackPublication
from .transcription import Transcription

if TYPE_CHECKING:
    from .room import Room

PUBLISH_TIMEOUT = 10.0
CAPTION_TRACK = "lk.transcribed_track_id"
MAX_DATA_SIZE = 64_000
"""Bytes in one data packet: what every client accepts."""
F = TypeVar("F", bound=Callable[..., Any])


class LocalParticipant(Participant):
    def __init__(self, info: models.ParticipantInfo, room: Room) -> None:
        super().__init__(info)
        self._room = room
        self._track_publications: dict[str, LocalTrackPublication] = {}
        self._options: dict[str, TrackPublishOptions] = {}
        """By track cid: how to publish it again after a full reconnect."""
        self._cids: dict[LocalTrack, str] = {}
        self._open_writers: set[Any] = set()
        self._former_sids: dict[str, LocalTrackPublication] = {}
        """Sids from before a full reconnect: what the program still holds of them means the track as it is now."""
        self._permissions: tuple[bool, list[ParticipantTrackPermission]] | None = None
        """What `set_track_subscription_permissions` was told. None: nothing, so everybody may subscribe."""
        self._rpc = RpcManager(self, room._streams)

    @property
    def track_publications(self) -> Mapping[str, LocalTrackPublication]:
        return self._track_publications

    @property
    def _rpc_handlers(self) -> dict[str, RpcHandler]:
        return self._rpc.handlers

    def _room_participants(self) -> Mapping[str, RemoteParticipant]:
        return self._room.remote_participants

    # --- tracks ----------------------------------------------------------------------------------------------------

    async def publish_track(
        self, track: LocalTrack, options: TrackPublishOptions | None = None
    ) -> LocalTrackPublication:
        """Publish and wait until the server has answered. A track is published once at a time.

        Raises:
            PublishTrackError: refused, not connected, or no answer within 10 s.
        """
        if track in self._cids:
            raise PublishTrackError(f"{track!r} is published already")
        kept = TrackPublishOptions()
        if options is not None:
            kept.CopyFrom(options)
        cid = str(uuid.uuid4())
        self._cids[track] = cid
        self._options[cid] = kept
        try:
            info = await self._publish(track, cid, kept)
        except BaseException:
            self._forget(track)
            raise
        publication = LocalTrackPublication(info, track)
        self._track_publications[info.sid] = publication
        if self._room._take_early_subscription(info.sid):
            publication._subscribed.set()
        self._room._emit("local_track_published", publication, track)
        return publication

    async def _publish(
        self, track: LocalTrack, cid: str, options: TrackPublishOptions, again: LocalTrackPublication | None = None
    ) -> models.TrackInfo:
        """`again`: the publication whose track it is, after a full reconnect."""
        session = self._room._session
        if session is None or session.closed or session.publisher is None:
            raise PublishTrackError("cannot publish: the room is not connected")
        key = ("track", cid)
        answer = session.expect(key)
        session.send(proto.SignalRequest(add_track=add_track_request(track, cid, options)))
        transport, mid = None, ""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                info: models.TrackInfo = await answer
                if again is not None:
                    # Before there is any media: a permission for this track names its sid.
                    again._info = info
                    self._send_permissions()
                transport = session.publisher
                if transport is None:
                    raise PublishTrackError("cannot publish: the room was disconnected")
                mid = self._add_section(transport, track, cid, options)
                session._publisher_offered = True
                await transport.negotiate()
        except BaseException as error:
            if mid and transport is not None and not transport._closed:
                # Cancelled or given up half way: nothing may go on sending that nobody here holds.
                transport.peer.remove_send(mid)
                transport.sections.pop(mid, None)
                transport.negotiate()
            if isinstance(error, TimeoutError):
                raise PublishTrackError(f"the server did not answer within {PUBLISH_TIMEOUT:g} s") from None
            if isinstance(error, ConnectError):
                raise PublishTrackError(f"cannot publish {track.name!r}: {error.message}") from None
            raise
        finally:
            session.forget(key)
        track._connect(transport, mid)
        track._sid = info.sid
        track._publisher = self
        track._set_room(self._room)
        track._apply_mute()
        if track.muted != info.muted:
            # It was muted or unmuted while the request was under way.
            self._send_mute(info.sid, track.muted)
            info.muted = track.muted
        return info

    @staticmethod
    def _add_section(transport: Any, track: LocalTrack, cid: str, options: TrackPublishOptions) -> str:
        stream_id = options.stream or "-"
        if isinstance(track, LocalAudioTrack):
            mid: str = transport.peer.send_audio(
                track._source._native(transport.engine.loop),
                cid=cid,
                stream_id=stream_id,
                bitrate=audio_bitrate(track._source, options),
                dtx=bool(options.get("dtx", True)),
                red=bool(options.get("red", True)),
            )
            transport.sections[mid] = ("audio", True)
        elif isinstance(track, LocalVideoTrack):
            mid = transport.peer.send_video(
                track._source._native(transport.engine.loop),
                cid=cid,
                stream_id=stream_id,
                codec=codec_name(options),
                layers=layers_of(track, options),
                trailers=bool(options.frame_metadata_features),
            )
            transport.sections[mid] = ("video", True)
        else:
            raise PublishTrackError(f"{track!r} is not a local track")
        return mid

    async def unpublish_track(self, track_sid: str) -> None:
        """UnpublishTrackError when there is no such publication."""
        # While it is being published again it has its new sid and its old place.
        key = next((key for key, kept in self._track_publications.items() if kept.sid == track_sid), None)
        publication = self._track_publications.pop(key or self._current_sid(track_sid), None)
        if publication is None:
            raise UnpublishTrackError(f"there is no published track {track_sid!r}")
        track = publication.track
        if track is not None:
            self._forget(track)
            self._withdraw(track)
        self._room._emit("local_track_unpublished", publication)
        publication._track = None

    @staticmethod
    def _withdraw(track: LocalTrack) -> None:
        transport, mid = track._transport, track._mid
        track._transport, track._mid, track._publisher = None, "", None
        track._set_room(None)
        if transport is not None and not transport._closed:
            transport.peer.remove_send(mid)
            transport.negotiate()

    def _forget(self, track: LocalTrack) -> None:
        self._options.pop(self._cids.pop(track, ""), None)

    async def _republish(self) -> None:
        """After a full reconnect: all tracks anew, under new sids, their publications kept."""
        for previous_sid, publication in list(self._track_publications.items()):
            track = publication.track
            if track is None:
                continue
            cid = str(uuid.uuid4())
            options = self._options.pop(self._cids[track])
            self._cids[track], self._options[cid] = cid, options
            try:
                publication._info = await self._publish(track, cid, options, publication)
            except PublishTrackError as error:
                logger.error("%r is not published any more: %s", track, error)
                self._forget(track)
                track._transport, track._mid, track._publisher = None, "", None
                del self._track_publications[previous_sid]
                self._room._emit("local_track_unpublished", publication)
                continue
            if self._track_publications.pop(previous_sid, None) is None:
                # The program unpublished it meanwhile.
                self._forget(track)
                self._withdraw(track)
                continue
            self._track_publications[publication.sid] = publication
            self._former_sids = {
                sid: former for sid, former in self._former_sids.items() if former.sid in self._track_publications
            }
            self._former_sids[previous_sid] = publication
            if self._room._take_early_subscription(publication.sid):
                publication._subscribed.set()
            self._room._emit("local_track_republished", publication, previous_sid)

    def _current_sid(self, sid: str) -> str:
        """The sid of now for one from before a full reconnect."""
        former = self._former_sids.get(sid)
        return former.sid if former is not None and sid not in self._track_publications else sid

    def _room_left(self) -> None:
        """The publications stay readable; the tracks may be published elsewhere."""
        for track in self._cids:
            track._transport, track._mid, track._publisher = None, "", None
            track._set_room(None)
        self._cids.clear()
        self._options.clear()
        self._open_writers.clear()
        self._former_sids.clear()
        self._permissions = None

    def _local_track_muted(self, track: LocalTrack, muted: bool) -> None:
        """Our own `mute` or `unmute`: tell the server and the program."""
        publication = self._track_publications.get(track.sid)
        if publication is None:
            return
        self._send_mute(track.sid, muted)
        publication._info.muted = muted
        self._room._emit("track_muted" if muted else "track_unmuted", self, publication)

    def _send_mute(self, sid: str, muted: bool) -> None:
        if self._room._session is not None:
            self._room._session.send(proto.SignalRequest(mute=proto.MuteTrackRequest(sid=sid, muted=muted)))

    def set_track_subscription_permissions(
        self,
        *,
        allow_all_participants: bool,
        participant_permissions: list[ParticipantTrackPermission] | None = None,
    ) -> None:
        """Who may subscribe to our tracks, until it is said anew: also after a full reconnect, in which the sids of
        `allowed_track_sids` go on to mean the same tracks."""
        kept = []
        for permission in participant_permissions or []:
            copy = ParticipantTrackPermission()
            copy.CopyFrom(permission)
            kept.append(copy)
        self._permissions = (allow_all_participants, kept)
        self._send_permissions()

    def _send_permissions(self) -> None:
        if self._permissions is None or self._room._session is None:
            return
        allow_all, entries = self._permissions
        for entry in entries:
            entry.allowed_track_sids = [self._named_sid(sid) for sid in entry.allowed_track_sids]
        permissions = [
            proto.TrackPermission(
                participant_identity=p.participant_identity, all_tracks=p.allow_all, track_sids=p.allowed_track_sids
            )
            for p in entries
        ]
        self._room._session.send(
            proto.SignalRequest(
                subscription_permission=proto.SubscriptionPermission(
                    all_participants=allow_all, track_permissions=permissions
                )
            )
        )

    def _named_sid(self, sid: str) -> str:
        """The sid of now, also while the track is being published again."""
        publication = self._track_publications.get(sid)
        return publication.sid if publication is not None else self._current_sid(sid)

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
        await self._send_packet(
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
            await self._send_packet(packet)
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
                track_id=self._current_sid(transcription.track_sid),
                segments=segments,
            ),
        )
        try:
            await self._send_packet(packet)
        except PublishDataError as error:
            raise PublishTranscriptionError(error.message) from None

    async def _send_packet(self, packet: models.DataPacket, *, reliable: bool = True) -> None:
        session = self._room._session
        if session is None:
            raise PublishDataError("cannot send: the room is not connected")
        try:
            await session.send_packet(packet, reliable=reliable)
        except ConnectError as error:
            raise PublishDataError(f"cannot send: {error.message}") from None

    async def _send_stream_packet(self, packet: models.DataPacket) -> None:
        try:
            await self._send_packet(packet)
        except PublishDataError as error:
            raise StreamError(error.message) from None

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
        writer = TextStreamWriter(
            self,
            topic=topic,
            attributes=self._caption_attributes(attributes),
            stream_id=stream_id,
            total_size=total_size,
            reply_to_id=reply_to_id,
            destination_identities=destination_identities,
            sender_identity=sender_identity,
        )
        await writer._send_header()
        return writer

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
            self,
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
        return {**attributes, CAPTION_TRACK: self._current_sid(attributes[CAPTION_TRACK])}

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
        writer = ByteStreamWriter(
            self,
            name=name,
            topic=topic,
            attributes=attributes,
            stream_id=stream_id,
            total_size=total_size,
            mime_type=mime_type,
            destination_identities=destination_identities,
        )
        await writer._send_header()
        return writer

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
            self,
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
            self,
            file_path,
            topic=topic,
            destination_identities=destination_identities,
            attributes=attributes,
            stream_id=stream_id,
            compress=compress,
        )

    async def publish_data_track(self, *, name: str) -> LocalDataTrack:
        """Publish a track of small, fresh, unreliable frames. PublishDataTrackError when refused."""
        return await self._room._data_track_manager.publish(name)

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
        return await self._rpc.perform(
            RpcCallInfo(destination_identity, method, payload, response_timeout, max_round_trip_latency)
        )

    def register_rpc_method(self, method_name: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Answer calls of `method_name` with `handler(RpcInvocationData) -> str`, sync or async. Also a decorator."""
        if handler is not None:
            self._rpc.handlers[method_name] = handler
            return handler

        def decorator(function: F) -> F:
            self._rpc.handlers[method_name] = function
            return function

        return decorator

    def unregister_rpc_method(self, method: str) -> None:
        self._rpc.handlers.pop(method, None)

    def add_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        self._rpc.interceptors.append(interceptor)

    def remove_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        if interceptor in self._rpc.interceptors:
            self._rpc.interceptors.remove(interceptor)

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
        session = self._room._session
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
