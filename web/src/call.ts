/** One stay in a room: livekit-client's events become actions of the state. */
import {
  Room,
  RoomEvent,
  Track,
  type DisconnectReason,
  type LocalAudioTrack,
  type LocalVideoTrack,
  type Participant,
  type RemoteTrack,
} from 'livekit-client';
import { CAPTURE } from './devices';
import type { DeviceKind } from './model';
import { peopleOf } from './people';
import { deviceStatusOf, JoinError, type Problem } from './problems';
import { endProblem, joinProblem, textOf } from './reasons';
import { roundTrip } from './round-trip';
import type { Store } from './store';
import { Texts } from './texts';
import type { Pass } from './token';

const ROUND_TRIP_INTERVAL = 2_000;
const SOURCES = { microphone: Track.Source.Microphone, camera: Track.Source.Camera } as const;
const LISTEN_ONLY = 'You can listen and read here, but your token does not let you send sound or video.';

/** Everything that changes what is shown of a participant. */
const PEOPLE_EVENTS = [
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantActive,
  RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.ParticipantAttributesChanged,
  RoomEvent.ConnectionQualityChanged,
  RoomEvent.Reconnected,
  RoomEvent.ParticipantMetadataChanged,
] as const;

export class Call {
  private readonly room: Room;
  private readonly texts: Texts;
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
    this.texts = new Texts(this.room, store);
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

  sendChat(text: string): Promise<void> {
    return this.texts.sendChat(text);
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
      if (status !== 'asking')
        this.store.dispatch({ type: 'device', kind, status: publication && !publication.isMuted ? 'on' : 'off' });
    }
  }

  private listen(): void {
    const { room, store } = this;
    for (const event of PEOPLE_EVENTS) room.on(event, () => this.showPeople());
    for (const event of [
      RoomEvent.TrackMuted,
      RoomEvent.TrackUnmuted,
      RoomEvent.LocalTrackPublished,
      RoomEvent.LocalTrackUnpublished,
    ] as const)
      room.on(
        event,
        (_publication: unknown, participant: Participant) => void (participant.isLocal && this.syncDevices()),
      );
    room.on(RoomEvent.TrackSubscribed, (track) => this.hear(track));
    room.on(RoomEvent.TrackUnsubscribed, (track) => this.unhear(track));
    room.on(RoomEvent.SignalReconnecting, () => store.dispatch({ type: 'link', link: 'resuming' }));
    room.on(RoomEvent.Reconnecting, () => store.dispatch({ type: 'link', link: 'restarting' }));
    room.on(RoomEvent.Reconnected, () => store.dispatch({ type: 'link', link: 'good' }));
    room.on(RoomEvent.Disconnected, (reason) => this.ended(reason));
    room.on(RoomEvent.AudioPlaybackStatusChanged, () =>
      store.dispatch({ type: 'audio-blocked', blocked: !room.canPlaybackAudio }),
    );
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
    this.tell.ended(endProblem(reason));
  }

  private close(): void {
    this.over = true;
    this.texts.close();
    window.clearInterval(this.timer);
    for (const track of [...this.voices.keys()]) this.unhear(track);
  }
}
