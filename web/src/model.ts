/** The page's state: plain values, changed only by `reduce` in state.ts. */
import type { Entry } from './captions';
import type { Turn } from './latency';
import type { Problem } from './problems';

export type Phase = 'lobby' | 'joining' | 'call' | 'ended';

/** How the call's connection is. `resuming` keeps the media, `restarting` builds it anew. */
export type Link = 'good' | 'resuming' | 'restarting';

export type AgentState = 'initializing' | 'listening' | 'thinking' | 'speaking' | 'idle';

export type DeviceKind = 'microphone' | 'camera';

/** `off` and `on` are the user's choice; the others are in between or say why it cannot be on. */
export type DeviceStatus = 'off' | 'asking' | 'on' | 'refused' | 'missing' | 'busy' | 'failed' | 'insecure';

/** Something that can be shown in a video element. livekit-client's tracks have this shape. */
export interface Picture {
  attach(element: HTMLMediaElement): unknown;
  detach(element: HTMLMediaElement): unknown;
}

export interface Person {
  identity: string;
  name: string;
  isLocal: boolean;
  isAgent: boolean;
  agentState: AgentState | null;
  microphoneOn: boolean;
  speaking: boolean;
  poorConnection: boolean;
  camera: Picture | null;
  screen: Picture | null;
  audio: MediaStreamTrack | null;
}

export interface Notice {
  id: number;
  text: string;
  tone: 'info' | 'warning';
}

export interface State {
  phase: Phase;
  name: string;
  room: string;
  /** Name and room come from a token and cannot be changed here. */
  fixed: boolean;
  link: Link;
  devices: Record<DeviceKind, DeviceStatus>;
  people: readonly Person[];
  entries: readonly Entry[];
  turns: readonly Turn[];
  /** Round trip to the server in milliseconds. */
  roundTrip: number | null;
  problem: Problem | null;
  notice: Notice | null;
  audioBlocked: boolean;
  captionsOn: boolean;
  panelOpen: boolean;
  unread: number;
  /** Milliseconds since the epoch. */
  joinedAt: number | null;
  endedAt: number | null;
}
