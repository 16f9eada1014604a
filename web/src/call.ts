/** One stay in a room: livekit-client's events become actions of the state. */
import {
  ConnectionError, ConnectionErrorReason, DisconnectReason, Room, RoomEvent, Track, type LocalAudioTrack, type LocalVideoTrack,
  type Participant, type RemoteTrack, type TextStreamReader, type TranscriptionSegment,
} from 'livekit-client'; // prettier-ignore
import { SegmentStreams } from './captions';
import { CAPTURE } from './devices';
import { parseTurn } from './latency';
import type { DeviceKind } from './model';
import { nameOf, peopleOf } from './people';
import { deviceStatusOf, JoinError, problem, type Problem, type ProblemKind } from './problems';
import { roundTrip } from './round-trip';
import type { Store } from './store';
import type { Pass } from './token';

const CAPTIONS = 'lk.transcription';
const CHAT = 'lk.chat';
const TURN = 'greenroom.turn';
const ROUND_TRIP_INTERVAL = 2_000;
const SOURCES = { microphone: Track.Source.Microphone, camera: Track.Source.Camera } as const;
const LISTEN_ONLY = 'You can listen and read here, but your token does not let you send sound or video.';

/** Everything that changes what is shown of a participant. */
const PEOPLE_EVENTS = [
  RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.ParticipantActive, RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed, RoomEvent.TrackPublished, RoomEvent.TrackUnpublished, RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished, RoomEvent.ActiveSpeakersChanged,
  RoomEvent.ParticipantNameChanged, RoomEvent.ParticipantAttributesChanged, RoomEvent.ConnectionQualityChanged,
  RoomEvent.Reconnected, RoomEvent.ParticipantMetadataChanged,
] as const; // prettier-ignore

export class Call {
  private readonly room: Room;
  private readonly streams = new SegmentStreams();
  private readonly voices = new Map<RemoteTrack, HTMLMediaElement>();
  /** Tracks from the lobby that are being published. */
  private readonly opening: { [K in DeviceKind]?: LocalAudioTrack | LocalVideoTrack } = {};
  private timer = 0;
  private over = false;
  private joined = false;

  constructor(
    private readonly store: Store,
    chosen: Partial<Record<MediaDeviceKind, string>>,
    private readonly tell: { ended: (why: Problem) => void; trouble: (text: string) => void },
  ) {
    this.room = new Room({
      adaptiveStream: true,
      dynacast: true,
      stopLocalTrackOnUnpublish: true,
      audioCaptureDefaults: { deviceId: chosen.audioinput },
      videoCaptureDefaults: { deviceId: chosen.videoinput, ...CAPTURE },
      audioOutput: chosen.audiooutput ? { deviceId: chosen.audiooutput } : undefined,
    });
    this.listen();
  }

  get identity(): string {
    return this.room.localParticipant.identity;
  }

  /** Throws JoinError. */
  async join(pass: Pass): Promise<void> {
    try {
      await this.room.connect(pass.url, pass.token);
    } catch (error) {
      throw new JoinError(joinProblem(error));
    }
    this.joined = true;
    this.store.dispatch({ type: 'joined', room: this.room.name || pass.room, at: Date.now() });
    this.showPeople();
    this.timer = window.setInterval(() => void this.measure(), ROUND_TRIP_INTERVAL);
    void this.measure();
  }

  /** Ends the stay. Also stops a connect under way. */
  async leave(): Promise<void> {
    this.close();
    await this.room.disconnect();
  }

  async setDevice(kind: DeviceKind, on: boolean): Promise<void> {
    if (on && !this.mayPublish()) {
      this.store.dispatch({ type: 'device', kind, status: 'off' });
      return this.tell.trouble(LISTEN_ONLY);
    }
    const opening = this.opening[kind];
    if (opening) {
      // The track is still on its way to the room, which cannot be told yet: nothing of it goes out until then.
      opening.mediaStreamTrack.enabled = on;
      return this.store.dispatch({ type: 'device', kind, status: on ? 'on' : 'off' });
    }
    if (on) this.store.dispatch({ type: 'device', kind, status: 'asking' });
    const me = this.room.localParticipant;
    try {
      await (kind === 'microphone' ? me.setMicrophoneEnabled(on) : me.setCameraEnabled(on));
      this.store.dispatch({ type: 'device', kind, status: on ? 'on' : 'off' });
    } catch (error) {
      this.store.dispatch({ type: 'device', kind, status: deviceStatusOf(error) });
    }
    this.showPeople();
  }

  async chooseDevice(kind: MediaDeviceKind, id: string): Promise<void> {
    await this.room.switchActiveDevice(kind, id);
    this.showPeople();
  }

  currentDevice(kind: MediaDeviceKind): string {
    return this.room.getActiveDevice(kind) ?? '';
  }

  async sendChat(text: string): Promise<void> {
    const info = await this.room.localParticipant.sendText(text, { topic: CHAT });
    this.chat(info.id, this.room.localParticipant.identity, text, info.timestamp);
  }

  async startAudio(): Promise<void> {
    await this.room.startAudio();
  }

  /** Puts a track on the air that was opened before the call. */
  async publish(kind: DeviceKind, track: LocalAudioTrack | LocalVideoTrack): Promise<void> {
    this.opening[kind] = track;
    try {
      await this.room.localParticipant.publishTrack(track, { source: SOURCES[kind] });
    } catch (error) {
      track.stop();
      if (this.over) return;
      this.store.dispatch({ type: 'device', kind, status: 'off' });
      this.tell.trouble(this.mayPublish() ? `Your ${kind} could not be sent: ${textOf(error)}` : LISTEN_ONLY);
    } finally {
      delete this.opening[kind];
    }
    if (!this.over && !track.mediaStreamTrack.enabled && !track.isMuted) await this.setDevice(kind, false);
    this.syncDevices();
    this.showPeople();
  }

  private mayPublish(): boolean {
    return this.room.localParticipant.permissions?.canPublish ?? true;
  }

  /** The server, or a device that went away, may mute what is on; the buttons say so. */
  private syncDevices(): void {
    if (this.over) return;
    for (const kind of ['microphone', 'camera'] as const) {
      const publication = this.room.localParticipant.getTrackPublication(SOURCES[kind]);
      const status = this.store.state.devices[kind];
      if (this.opening[kind] || (status !== 'on' && !publication)) continue;
      if (status !== 'asking') this.store.dispatch({ type: 'device', kind, status: publication && !publication.isMuted ? 'on' : 'off' });
    }
  }

  private listen(): void {
    const { room, store } = this;
    for (const event of PEOPLE_EVENTS) room.on(event, () => this.showPeople());
    for (const event of [RoomEvent.TrackMuted, RoomEvent.TrackUnmuted, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished] as const)
      room.on(event, (_publication: unknown, participant: Participant) => void (participant.isLocal && this.syncDevices()));
    room.on(RoomEvent.TrackSubscribed, (track) => this.hear(track));
    room.on(RoomEvent.TrackUnsubscribed, (track) => this.unhear(track));
    room.on(RoomEvent.TranscriptionReceived, (segments, participant) => this.oldCaptions(segments, participant));
    room.on(RoomEvent.SignalReconnecting, () => store.dispatch({ type: 'link', link: 'resuming' }));
    room.on(RoomEvent.Reconnecting, () => store.dispatch({ type: 'link', link: 'restarting' }));
    room.on(RoomEvent.Reconnected, () => store.dispatch({ type: 'link', link: 'good' }));
    room.on(RoomEvent.Disconnected, (reason) => this.ended(reason));
    room.on(RoomEvent.AudioPlaybackStatusChanged, () => store.dispatch({ type: 'audio-blocked', blocked: !room.canPlaybackAudio }));
    room.registerTextStreamHandler(CAPTIONS, (reader, { identity }) => void this.read(() => this.caption(reader, identity)));
    room.registerTextStreamHandler(CHAT, (reader, { identity }) =>
      void this.read(async () => this.chat(reader.info.id, identity, await reader.readAll(), reader.info.timestamp)),
    );
    room.registerTextStreamHandler(TURN, (reader) =>
      void this.read(async () => {
        const turn = parseTurn(await reader.readAll());
        if (turn && !this.over) store.dispatch({ type: 'turn', turn });
      }),
    );
  }

  /** A stream may break off when its sender goes; what came of it stays on the page. */
  private async read(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      console.debug('a text stream broke off', error);
    }
  }

  private async caption(reader: TextStreamReader, sender: string): Promise<void> {
    const { id, timestamp, attributes = {} } = reader.info;
    const segment = attributes['lk.segment_id'] ?? id;
    const newest = this.streams.begin(segment);
    const identity = this.ownerOf(attributes['lk.transcribed_track_id']) ?? sender;
    const show = (text: string, final: boolean) => {
      if (newest()) this.speech(segment, identity, text, final, timestamp, false);
    };
    let text = '';
    try {
      for await (const chunk of reader) show((text += chunk), false);
    } finally {
      // The final mark may come at the end of the stream, with its trailer.
      show(text, reader.info.attributes?.['lk.transcription_final'] === 'true');
    }
  }

  private oldCaptions(segments: TranscriptionSegment[], participant: Participant | undefined): void {
    if (!participant) return;
    for (const { id, text, final, firstReceivedTime } of segments) this.speech(id, participant.identity, text, final, firstReceivedTime, true);
  }

  private speech(id: string, identity: string, text: string, final: boolean, at: number, legacy: boolean): void {
    if (this.over) return;
    const participant = this.room.getParticipantByIdentity(identity);
    const entry = { id, kind: 'speech', identity, name: nameOf(participant, identity), text, final, isLocal: participant?.isLocal ?? false, at, legacy } as const;
    this.store.dispatch({ type: 'speech', entry });
  }

  private chat(id: string, identity: string, text: string, at: number): void {
    if (this.over || !text.trim()) return;
    const participant = this.room.getParticipantByIdentity(identity);
    const entry = { id, kind: 'chat', identity, name: nameOf(participant, identity), text, final: true, isLocal: participant?.isLocal ?? false, at } as const;
    this.store.dispatch({ type: 'chat', entry });
  }

  private ownerOf(trackSid: string | undefined): string | undefined {
    if (!trackSid) return undefined;
    const everyone: Participant[] = [this.room.localParticipant, ...this.room.remoteParticipants.values()];
    return everyone.find((participant) => participant.trackPublications.has(trackSid))?.identity;
  }

  private hear(track: RemoteTrack): void {
    if (track.kind !== Track.Kind.Audio || this.voices.has(track)) return;
    const element = track.attach();
    this.voices.set(track, element);
    document.body.append(element);
  }

  private unhear(track: RemoteTrack): void {
    this.voices.delete(track);
    for (const element of track.detach()) if (element instanceof HTMLAudioElement) element.remove();
  }

  private showPeople(): void {
    if (this.joined && !this.over) this.store.dispatch({ type: 'people', people: peopleOf(this.room) });
  }

  private async measure(): Promise<void> {
    const ms = await roundTrip(this.room);
    if (!this.over) this.store.dispatch({ type: 'round-trip', ms });
  }

  private ended(reason: DisconnectReason | undefined): void {
    if (this.over || !this.joined) return;
    this.close();
    this.tell.ended(problem(END_REASONS[reason ?? DisconnectReason.UNKNOWN_REASON] ?? 'lost'));
  }

  private close(): void {
    this.over = true;
    window.clearInterval(this.timer);
    for (const track of [...this.voices.keys()]) this.unhear(track);
  }
}

const END_REASONS: Partial<Record<DisconnectReason, ProblemKind>> = {
  [DisconnectReason.CLIENT_INITIATED]: 'left',
  [DisconnectReason.DUPLICATE_IDENTITY]: 'duplicate',
  [DisconnectReason.SERVER_SHUTDOWN]: 'server-stopped',
  [DisconnectReason.PARTICIPANT_REMOVED]: 'removed',
  [DisconnectReason.ROOM_DELETED]: 'room-ended',
  [DisconnectReason.ROOM_CLOSED]: 'room-ended',
};

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function joinProblem(error: unknown): Problem {
  if (!(error instanceof ConnectionError)) return problem('unknown', textOf(error));
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return error.status === 403 && /limit|maximum|exceeded/i.test(error.message) ? problem('full') : problem('bad-token');
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.ServiceNotFound:
    case ConnectionErrorReason.WebSocket:
      return problem('server-gone');
    case ConnectionErrorReason.Timeout:
      return problem('no-media');
    case ConnectionErrorReason.InternalError:
      return /peer ?connection|pc connection|ice/i.test(error.message) ? problem('no-media') : problem('server-gone');
    default:
      return problem('unknown', error.message);
  }
}
