"""The seam between Python and the native core.

Everything that crosses is listed here. Python sends whole, idempotent intents as plain values; native answers with
batches of plain tuples announced through one eventfd per object. No packet crosses, no SDP is parsed below on the server
side, and no call blocks: commands are queued to a native thread and return at once.

Server side: `MediaServer`. Participant side: `PeerEngine`, `Peer` and the media objects behind `greenroom.rtc`.
"""

from collections.abc import Sequence
from typing import Any, Literal, final

from typing_extensions import Buffer

from greenroom.server.media import Receiver, Sender

__version__: str

# --- server ------------------------------------------------------------------------------------------------------

@final
class MediaServer:
    """Shard threads that own the UDP sockets and forward media between peers.

    A *peer* is one peer connection (a BUNDLE group): a participant has one in single mode, two in dual mode. Peer, room
    and track ids are integers chosen by Python, unique in the process and never used again. A room lives on one shard
    (`room % shards`), and shard `k` listens on `udp_port + k`.
    """

    def __init__(
        self, *, bind: Sequence[str], udp_port: int, shards: int = 1, stuck_after: float = 5.0, audio_wait: float = 0.0
    ) -> None:
        """Bind and start. `bind`: IP addresses. `udp_port` 0 picks a free one. OSError when a port is taken.
        `stuck_after`: seconds without a turn of its loop after which a shard is reported as stuck.
        `audio_wait`: seconds (0 to 0.005) that a busy shard may keep audio back, so that packets of several speakers leave
        in one send."""

    @property
    def fingerprint(self) -> str:
        """The certificate's fingerprint as in SDP: `sha-256 AB:CD:...`."""
    @property
    def event_fd(self) -> int:
        """Readable while events wait; `poll_events` clears it."""
    def port(self, room: int) -> int:
        """The UDP port on which the peers of `room` are served."""
    def shard_of(self, room: int) -> int:
        """The shard that serves `room`, from 0."""
    def poll_events(self) -> list[tuple[Any, ...]]:
        """Take waiting events, about a thousand at a time; `event_fd` stays readable while there are more:

        - `("connected", peer)`: ICE checked, DTLS done, fingerprint verified, SRTP ready.
        - `("failed", peer, reason)`: DTLS or fingerprint failure (str reason); the peer is still there until removed.
        - `("disconnected", peer)`: no STUN check or packet for 10 s; `("reconnected", peer)` when it comes back;
          `("lost", peer)` 5 s after "disconnected" with nothing heard.
        - `("track", track, layer, ssrc, pt)`: first media packet of a published layer (layer = spatial 0..2).
        - `("data", peer, label, payload, binary)`: one data-channel message, `label` such as "_reliable" or "_lossy".
        - `("channel", peer, label)`: a data channel is open and can be written to.
        - `("speakers", room, [(track, level, active), ...])`: changes only, at most every 400 ms; level 0..1 in eighths.
        - `("dropped", peer, label, count)`: messages not sent because the reader is too slow.
        - `("unread", peer, count)`: messages from this peer that were dropped, since they were not taken in time. A peer
          may have 8,192 of them or 4 MiB waiting, overhead included, all peers together 64 MiB, shared fairly.
        - `("shard_restarted", shard, reason)`: a shard failed and gave up its state; an empty one serves its port. Its
          peers, tracks and streams are gone; commands that name them are ignored.
        - `("shard_failed", shard, reason)`: it failed again and again, or its thread is gone. Its port is closed.
        - `("shard_stuck", shard, reason)`: it has not turned for `stuck_after` seconds, and may never do so again.

        Messages are dropped when they are not taken in time, everything else is not: what repeats keeps its newest value.
        """
    def add_peer(self, peer: int, room: int, ufrag: str, pwd: str) -> None:
        """Expect STUN for this local ufrag and password (ICE-lite, DTLS passive)."""
    def set_remote(self, peer: int, ufrag: str, pwd: str, fingerprint: str) -> None:
        """The other side's ICE credentials and `sha-256 AB:..` fingerprint. DTLS waits for it. Idempotent."""
    def start_dtls(self, peer: int) -> None:
        """Be the DTLS client (the other side is `a=setup:passive`) once a path is nominated. Idempotent."""
    def restart_ice(self, peer: int, ufrag: str, pwd: str) -> None:
        """New local credentials. The old ones stay good until a check with the new ones arrives."""
    def set_receivers(self, peer: int, receivers: Sequence[Receiver]) -> None:
        """The whole set of sections on which the peer sends to us. Idempotent; what is missing is forgotten."""
    def set_senders(self, peer: int, senders: Sequence[Sender]) -> None:
        """The whole set of sections on which we send to the peer. Identity of a stream is its `ssrc`."""
    def set_data(self, peer: int, max_message_size: int, channels: Sequence[tuple[str, bool, int | None]] = ()) -> None:
        """Start SCTP (as the passive side, port 5000) and open `channels` (label, ordered, max_retransmits) ourselves.

        Channels that the client opens by DCEP are accepted always; a label is written to on the newest open channel."""
    def set_room(self, room: int, *, top_speakers: int | None = None) -> None:
        """How a room with peers in it is served: forward only this many of its loudest audio tracks (None: all)."""
    def set_muted(self, track: int, muted: bool) -> None:
        """Stop or resume forwarding of a published track at its source."""
    def send_data(self, peers: Sequence[int], label: str, payload: bytes) -> None:
        """Queue one binary message to each peer. Peers without an open channel of that label get it when it opens
        (bounded: 256 messages; then dropped and reported). A shard that is behind by 64 MiB drops and reports too."""
    def remove_peer(self, peer: int) -> None:
        """Close DTLS and forget the peer, its tracks and streams. Unknown ids are ignored."""
    def request_keyframe(self, track: int) -> None: ...
    def metrics(self) -> dict[str, int]:
        """Counters since start: packets_in, bytes_in, packets_out, bytes_out, dropped_<reason>, nacks_in, nacks_out,
        rtx_out, plis_in, plis_out, panics, restarts, peers, ... Monotonic except the gauges peers and segmentation."""
    def peer_stats(self, peer: int) -> dict[str, Any] | None:
        """Newest snapshot (made once a second): rtt_ms, and per track packets, bytes, lost, jitter_ms, fraction_lost."""
    def close(self) -> None:
        """Stop the threads, close the sockets, within 3 s: a stuck thread is left behind. Twice is fine."""
    def _inject_fault(self, shard: int, fault: str, seconds: float = 0.0) -> None:
        """For tests of what happens then: "panic" (survived), "die" (the state is given up), "stall" for `seconds`."""

# --- participant -------------------------------------------------------------------------------------------------

@final
class PeerEngine:
    """One I/O thread for any number of peers, and a small pool of codec threads. One per process is enough.

    Must be created after a fork, never before."""

    def __init__(self, *, codec_threads: int = 1) -> None: ...
    @property
    def event_fd(self) -> int: ...
    def poll_events(self) -> list[tuple[Any, ...]]:
        """Take all waiting events (`id` is `Peer.id`, `sink`/`source` the id of a media object):

        - `("connected", id)`, `("disconnected", id)`, `("failed", id, reason)`
        - `("channel", id, label)` data channel open; `("channel_closed", id, label)`; `("data", id, label, payload, binary)`;
          `("drained", id, label)` buffered amount fell below the low mark (64 KiB)
        - `("media", id, mid)`: first media arrived on a receiving section
        - `("keyframe_request", source)`: somebody needs a key frame (native already acts; for statistics)
        - `("audio", sink)` / `("video", sink)` / `("encoded", sink)`: frames wait in a sink (coalesced: one until `read` was called)
        - `("end", sink)`: no more frames will come
        - `("room", source)`: an audio source that was full has room again; `("silent", source)`: its queue ran empty
        """
    def close(self) -> None: ...

@final
class Peer:
    """One peer connection of the participant (str0m inside). Media sections are named by mid.

    Offers: collect changes (`add_*`, `remove_send`), then `create_offer()`, then `set_answer()`. One offer at a time:
    `create_offer` raises RuntimeError while one is pending. Host candidates of all local addresses (loopback included)
    are in every SDP; server-reflexive ones are not gathered."""

    def __init__(self, engine: PeerEngine) -> None: ...
    @property
    def id(self) -> int: ...
    def add_receive(self, kind: str, count: int = 1) -> list[str]:
        """Recvonly sections in the next offer. Returns their mids. kind: "audio" or "video"."""
    def add_data_channel(self, label: str, ordered: bool, max_retransmits: int | None) -> None:
        """Opened with the next negotiation, or at once when there has been one with data channels."""
    def send_audio(
        self,
        source: AudioInput,
        *,
        cid: str,
        stream_id: str,
        bitrate: int,
        dtx: bool,
        red: bool,
        mid: str | None = None,
        receive: bool = False,
    ) -> str:
        """A sendonly Opus section (msid `stream_id cid`) in the next offer, or one that may receive too (`receive`).
        Returns its mid. With `mid`: on that section, which exists and sends nothing, or comes with the next remote offer."""
    def send_video(
        self,
        source: VideoInput,
        *,
        cid: str,
        stream_id: str,
        codec: str,
        layers: Sequence[tuple[str, float, int, float]],
        trailers: bool = False,
        mid: str | None = None,
        receive: bool = False,
    ) -> str:
        """A sendonly video section. codec "vp8" or "h264". layers: (rid, scale_down_by, max_bitrate, max_fps), largest
        first; one layer with rid "" means no simulcast, and a section that exists takes no other. `mid`, `receive`: as above.
        `trailers`: the frames' metadata goes along, behind each encoded frame, which the other side must have been told."""
    def set_receiving(self, mid: str, receiving: bool) -> None:
        """What the next offer says, and answers from now on."""
    def remove_send(self, mid: str) -> None:
        """Send nothing on the section any more (inactive or recvonly in the next offer)."""
    def set_send_muted(self, mid: str, muted: bool) -> None: ...
    def create_offer(self, ice_restart: bool = False) -> str: ...
    def rollback(self) -> bool:
        """Take back the offer that waits; its changes go into the next one. False when none waits."""
    def set_answer(self, sdp: str) -> None: ...
    def accept_offer(self, sdp: str) -> str: ...
    def add_candidate(self, candidate: str) -> None:
        """`candidate:...` as in SDP. What cannot be used (mDNS, TCP) is ignored."""
    def receive_audio(self, mid: str, *, sample_rate: int, channels: int, frame_ms: int, capacity: int) -> AudioSink:
        """Attach a sink to a receiving section; several sinks may be attached. capacity: frames, 0 = unbounded for a
        reader that keeps up (hard limit 10 s), else the oldest are dropped."""
    def receive_video(self, mid: str, *, capacity: int) -> VideoSink: ...
    def receive_encoded(self, mid: str, kind: str, *, group: str, capacity: int) -> EncodedSink:
        """Attach a sink for frames as they come, of a section of this kind ("audio", "video"); nothing is decoded for it.
        `group`: sections with the same are one participant's, their times are made comparable. capacity: frames, 0 = about
        10 s; 32 MiB wait at most; the oldest are dropped."""
    def send(self, label: str, payload: bytes) -> int:
        """Queue a binary message. Returns the bytes buffered after it. RuntimeError when the channel is not open,
        BufferError when more than 16 MiB wait."""
    def send_text(self, label: str, text: str) -> int: ...
    def close_channel(self, label: str) -> bool:
        """False when no channel of that label is open."""
    def buffered(self, label: str) -> int: ...
    def stats(self) -> dict[str, Any]:
        """rtt_ms, bytes_in, bytes_out, and per mid: packets, bytes, lost, jitter_ms, concealed_ms, decoded, malformed,
        nacks, plis, codec, ssrc. A section that does both has what it sends, and what it receives under "received"."""
    def close(self) -> None:
        """Send close_notify, drop everything. Sinks get "end". Twice is fine."""

@final
class AudioInput:
    """PCM towards a sending section. int16, interleaved. Resampled to 48 kHz and encoded natively in 20 ms packets,
    paced by the native clock; silence is sent as DTX or nothing while the queue is empty."""

    def __init__(self, engine: PeerEngine, sample_rate: int, channels: int, queue_ms: int) -> None: ...
    @property
    def id(self) -> int: ...
    def push(self, pcm: Buffer) -> bool:
        """All of it, or none. False: the queue is full, wait for ("room", id). A frame longer than the queue is taken
        when the queue is empty."""
    def queued_ms(self) -> float: ...
    def clear(self) -> None: ...
    def close(self) -> None: ...

FrameWords = tuple[int | None, int | None, bytes]
"""What is said about a picture: timestamp in microseconds (64 bits), frame id (32 bits), user data."""

@final
class VideoInput:
    def __init__(self, engine: PeerEngine, width: int, height: int, screencast: bool = False) -> None: ...
    @property
    def id(self) -> int: ...
    def push(
        self,
        data: Buffer,
        width: int,
        height: int,
        format: int,
        timestamp_us: int,
        rotation: int,
        metadata: FrameWords | None = None,
    ) -> None:
        """`format`: VideoBufferType value. Latest wins: an unencoded older frame is dropped. `metadata` takes 255 bytes at
        most with 2 for each of its fields and 5 more: ValueError beyond."""
    def close(self) -> None: ...

@final
class NativeAudioFrame:
    """Buffer protocol: read-only int16."""

    sample_rate: int
    channels: int
    samples_per_channel: int
    concealed: bool
    """Some of it was made up by loss concealment."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class AudioSink:
    @property
    def id(self) -> int: ...
    def read(self) -> list[NativeAudioFrame]: ...
    def close(self) -> None: ...

@final
class NativeVideoFrame:
    """Buffer protocol: read-only bytes, planes tightly packed (I420 from decoders)."""

    width: int
    height: int
    format: int
    timestamp_us: int
    rotation: int
    metadata: FrameWords | None
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class VideoSink:
    @property
    def id(self) -> int: ...
    def read(self) -> list[NativeVideoFrame]: ...
    def close(self) -> None: ...

@final
class NativeEncodedFrame:
    """Times in microseconds; sizes are 0 when unknown."""

    mime_type: str
    data: bytes
    """A new object at each reading."""
    rtp_timestamp: int
    clock_rate: int
    presentation_us: int
    """CLOCK_MONOTONIC."""
    duration_us: int
    key_frame: bool
    width: int
    height: int
    rotation: int
    discontinuity: bool
    metadata: FrameWords | None

@final
class EncodedSink:
    @property
    def id(self) -> int: ...
    @property
    def dropped(self) -> int:
        """Frames that made room for newer ones."""
    def read(self) -> list[NativeEncodedFrame]:
        """When frames were dropped before them, the first says `discontinuity`; a key frame is asked for if they have none."""
    def request_keyframe(self) -> None:
        """Ask the sender, until one comes."""
    def close(self) -> None: ...

def convert_video(
    data: Buffer, width: int, height: int, from_format: int, to_format: int, flip_y: bool = False
) -> bytearray:
    """Convert between VideoBufferType values (RGBA 0, ABGR 1, ARGB 2, BGRA 3, RGB24 4, I420 5, I420A 6, I422 7, I444 8,
    I010 9, NV12 10); RGBA.. name the order in memory. ValueError on wrong sizes. The GIL is released."""

@final
class Resampler:
    def __init__(self, input_rate: int, output_rate: int, channels: int) -> None: ...
    def push(self, pcm: Buffer) -> bytes: ...
    def flush(self) -> bytes: ...

# --- load generator (bench/) -------------------------------------------------------------------------------------

@final
class LoadEngine:
    """Many small peers in one native thread, for benchmarks: each costs a server what a real client costs it, and
    nothing is decoded. RuntimeError after `close`."""

    def __init__(self, *, coalesce: bool = True) -> None:
        """`coalesce`: receive with the kernel's UDP_GRO. OSError when sockets cannot be made."""
    @property
    def fingerprint(self) -> str:
        """As in SDP: `sha-256 AB:CD:...`. One certificate for all peers."""
    def new_ssrc(self) -> int: ...
    def add_peer(self) -> tuple[int, str, str]:
        """A peer that does nothing yet: its id, ICE ufrag and pwd."""
    def connect(
        self, peer: int, address: str, ufrag: str, pwd: str, fingerprint: str, *, controlling: bool, dtls_client: bool
    ) -> None:
        """Start ICE and DTLS with `address` (IP:PORT) and the other side's credentials. Only the first call counts.
        ValueError for a malformed address or fingerprint, OSError without a socket."""
    def set_reception(
        self,
        peer: int,
        codecs: Sequence[tuple[int, int, int | None, bool]],
        *,
        repairs: Sequence[tuple[int, int]] = (),
        twcc_id: int | None = None,
        remb_bps: int | None = None,
    ) -> None:
        """How to understand what arrives. codecs: (payload type, clock rate, payload type it repairs or None, NACK
        allowed). repairs: (retransmission SSRC, SSRC). `remb_bps`: the bandwidth to claim once a second."""
    def publish_audio(
        self,
        peer: int,
        ssrc: int,
        payload_type: int,
        payloads: Sequence[bytes],
        *,
        level: int = 30,
        stamp: bool = False,
        mid: tuple[int, str] | None = None,
        level_id: int | None = None,
        twcc_id: int | None = None,
    ) -> None:
        """One payload every 20 ms, in turn. `stamp`: end each with the time it was sent, for `delay_us`; it is no Opus
        then. `mid`: extension id and value; the other ids are of extensions too.
        ValueError for ids outside 1..14 or no payloads."""
    def publish_video(
        self,
        peer: int,
        ssrc: int,
        payload_type: int,
        *,
        bitrate: int,
        frame_rate: int,
        packet_len: int,
        pace: Literal["burst", "runs", "uplink"],
        uplink_bps: int = 0,
        mid: tuple[int, str] | None = None,
        twcc_id: int | None = None,
    ) -> None:
        """VP8-shaped frames at `bitrate` bits per second, cut into RTP packets of at most `packet_len` bytes. `pace`: a frame
        at once, short runs every 5 ms as a browser's pacer sends them, or those runs spread by an uplink of `uplink_bps`.
        ValueError for another pace or an uplink without a rate."""
    def unpublish(self, peer: int, ssrc: int) -> None: ...
    def remove(self, peer: int) -> None:
        """Close and forget. Unknown ids are ignored."""
    def mark(self) -> None:
        """Start measuring delays and lag anew."""
    def stats(self) -> dict[str, Any]:
        """`peers`: by id connected_ms, failure, received (by SSRC: packets, bytes, lost, missing, late, duplicates, nacks,
        jitter_ms), sent (by SSRC: packets, bytes, retransmitted, keyframes, skipped), dropped, repairs, channels,
        messages. `delay_us`: p50, p99, p999 from a stamped source (video always is) to a peer of this engine, or None;
        `frame_delay_us`: the same of last packets of video frames.
        `send_failures`, `worst_lag_us`."""
    def close(self) -> None:
        """Close all peers and end the thread. Twice is fine."""

def opus_packets(pcm: Buffer, bitrate: int) -> list[bytes]:
    """Opus in 20 ms packets, of 48 kHz mono int16 samples; what is left at the end is dropped. ValueError when libopus
    refuses."""
