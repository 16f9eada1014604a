/** The microphone and camera before the call: tried out in the lobby, then handed to the room as they are. */
import {
  createLocalAudioTrack,
  createLocalVideoTrack,
  Room,
  VideoPresets,
  type LocalAudioTrack,
  type LocalVideoTrack,
} from 'livekit-client';
import type { DeviceKind, DeviceStatus } from './model';
import { deviceStatusOf } from './problems';

type Tracks = { microphone: LocalAudioTrack; camera: LocalVideoTrack };

export const CAPTURE = { resolution: VideoPresets.h720.resolution } as const;

export class Devices {
  private readonly tracks: { [K in DeviceKind]?: Tracks[K] } = {};
  private readonly wanted: Record<DeviceKind, boolean> = { microphone: false, camera: false };
  /** The chosen device of each kind, kept for the call and the next visit. */
  readonly chosen: Partial<Record<MediaDeviceKind, string>> = {};

  constructor(
    private readonly onStatus: (kind: DeviceKind, status: DeviceStatus) => void,
    private readonly onTracks: () => void,
  ) {}

  get microphone(): LocalAudioTrack | undefined {
    return this.tracks.microphone;
  }

  get camera(): LocalVideoTrack | undefined {
    return this.tracks.camera;
  }

  async set(kind: DeviceKind, on: boolean): Promise<void> {
    this.wanted[kind] = on;
    if (!on) {
      this.stop(kind);
      this.onStatus(kind, 'off');
      return;
    }
    if (this.tracks[kind]) return;
    this.onStatus(kind, 'asking');
    try {
      const track = await this.open(kind);
      // The answer to the browser's question may come after the user changed their mind or joined.
      if (!this.wanted[kind] || this.tracks[kind]) return void track.stop();
      this.tracks[kind] = track as never;
      track.once('ended', () => this.lost(kind, track));
      this.onTracks();
      this.onStatus(kind, 'on');
    } catch (error) {
      if (!this.wanted[kind]) return;
      this.wanted[kind] = false;
      this.onStatus(kind, deviceStatusOf(error));
    }
  }

  async choose(kind: MediaDeviceKind, id: string): Promise<void> {
    this.chosen[kind] = id;
    const mine = kind === 'audioinput' ? 'microphone' : kind === 'videoinput' ? 'camera' : null;
    if (!mine || !this.tracks[mine]) return;
    this.stop(mine);
    await this.set(mine, true);
  }

  /** Gives the open tracks away: from now on they are the room's. */
  take(): { [K in DeviceKind]?: Tracks[K] } {
    const taken = { ...this.tracks };
    for (const kind of ['microphone', 'camera'] as const) {
      delete this.tracks[kind];
      this.wanted[kind] = false;
    }
    return taken;
  }

  list(kind: MediaDeviceKind): Promise<MediaDeviceInfo[]> {
    return navigator.mediaDevices ? Room.getLocalDevices(kind, false) : Promise.resolve([]);
  }

  private open(kind: DeviceKind): Promise<LocalAudioTrack | LocalVideoTrack> {
    if (!navigator.mediaDevices) return Promise.reject(new DOMException('no media devices', 'NotSupportedError'));
    return kind === 'microphone'
      ? createLocalAudioTrack({ deviceId: this.chosen.audioinput })
      : createLocalVideoTrack({ deviceId: this.chosen.videoinput, ...CAPTURE });
  }

  private lost(kind: DeviceKind, track: unknown): void {
    if (this.tracks[kind] !== track) return;
    delete this.tracks[kind];
    this.wanted[kind] = false;
    this.onTracks();
    this.onStatus(kind, 'missing');
  }

  private stop(kind: DeviceKind): void {
    this.tracks[kind]?.stop();
    delete this.tracks[kind];
    this.onTracks();
  }
}
