/** What the views may ask for. The app implements it on livekit-client; a scripted one serves the design preview. */
import type { DeviceKind } from './model';

export interface Actions {
  join(): void;
  /** Back to the form, from a join under way or from the end. */
  toLobby(): void;
  leave(): void;
  toggle(kind: DeviceKind): void;
  chooseDevice(kind: MediaDeviceKind, id: string): void;
  /** The devices to choose from and the one in use ('' when unknown). */
  listDevices(kind: MediaDeviceKind): Promise<{ devices: MediaDeviceInfo[]; current: string }>;
  /** Rejects when the message could not be sent. */
  sendChat(text: string): Promise<void>;
  startAudio(): void;
  copyLink(): void;
  dismissNotice(): void;
}
