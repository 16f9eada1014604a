/** What can go wrong, in words that say what to do next. */
import type { DeviceKind, DeviceStatus } from './model';

export type ProblemKind =
  | 'server-gone'
  | 'bad-token'
  | 'no-tokens'
  | 'no-media'
  | 'full'
  | 'lost'
  | 'left'
  | 'removed'
  | 'room-ended'
  | 'duplicate'
  | 'server-stopped'
  | 'unsupported'
  | 'unknown';

export interface Problem {
  kind: ProblemKind;
  title: string;
  text: string;
  /** The label of the way forward. */
  action: string;
}

const PROBLEMS: Record<ProblemKind, Omit<Problem, 'kind'>> = {
  'server-gone': {
    title: 'The server is not answering',
    text: 'Check that greenroom is still running, then try again.',
    action: 'Try again',
  },
  'bad-token': {
    title: 'The server did not accept the token',
    text: 'It may have expired, or it was made with another key. Ask for a new one and try again.',
    action: 'Try again',
  },
  'no-tokens': {
    title: 'This server does not hand out tokens',
    text: 'Only a development server does: start it with greenroom dev. Or open this page with #token=… from your own application.',
    action: 'Try again',
  },
  'no-media': {
    title: 'Sound and video cannot get through',
    text: 'The server answers, but no media connection came about. A firewall or VPN that blocks UDP is the usual reason.',
    action: 'Try again',
  },
  full: { title: 'The room is full', text: 'Someone has to leave before you can join.', action: 'Try again' },
  lost: {
    title: 'The connection was lost',
    text: 'We tried to get it back for a while. Your room may still be there.',
    action: 'Join again',
  },
  left: { title: 'You left the room', text: 'Your microphone and camera are off.', action: 'Join again' },
  removed: {
    title: 'You were removed from the room',
    text: 'Someone who manages the room ended your part.',
    action: 'Join again',
  },
  'room-ended': {
    title: 'The room was closed',
    text: 'Everyone has left it. Joining again opens a new one.',
    action: 'Join again',
  },
  duplicate: {
    title: 'You joined from somewhere else',
    text: 'The same identity entered this room in another tab or on another device, so this one was let go.',
    action: 'Join here instead',
  },
  'server-stopped': {
    title: 'The server was stopped',
    text: 'Start it again, then join again. Your name and room are kept.',
    action: 'Join again',
  },
  unsupported: {
    title: 'This browser cannot take part in calls',
    text: 'It has no WebRTC. A current Chrome, Edge, Firefox or Safari does.',
    action: 'Try again',
  },
  unknown: { title: 'Joining did not work', text: '', action: 'Try again' },
};

/** `detail` is what the server or the browser said; it follows our own sentence. */
export function problem(kind: ProblemKind, detail = ''): Problem {
  const known = PROBLEMS[kind];
  const said = detail.trim() && kind !== 'left' ? sentence(detail.trim()) : '';
  return { kind, ...known, text: [known.text, said].filter(Boolean).join(' ') };
}

function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/** An error with its explanation; thrown by what the session calls. */
export class JoinError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.title);
  }
}

/** One sentence about a device that cannot be used and what to do, or '' when there is nothing to say. */
export function deviceProblem(kind: DeviceKind, status: DeviceStatus, inCall = false): string {
  const without = inCall ? 'go on without it' : 'join without it';
  switch (status) {
    case 'refused':
      return `Your ${kind} is blocked for this page. Allow it in the address bar and turn it on again, or ${without}.`;
    case 'missing':
      return `No ${kind} was found. Plug one in and turn it on again, or ${without}.`;
    case 'busy':
      return `Another program is using your ${kind}. Close that and turn it on again, or ${without}.`;
    case 'failed':
      return `Your ${kind} did not start. Turn it on again, choose another one, or ${without}.`;
    case 'insecure':
      return `Browsers give pages a ${kind} only over https or on localhost. You can ${without}.`;
    default:
      return '';
  }
}

/** The state that getUserMedia's error stands for (Media Capture and Streams, section 10.3). */
export function deviceStatusOf(error: unknown): DeviceStatus {
  if (typeof navigator !== 'undefined' && !navigator.mediaDevices) return 'insecure';
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
    case 'PermissionDeniedError':
    case 'SecurityError':
      return 'refused';
    case 'NotFoundError':
    case 'OverconstrainedError':
    case 'DevicesNotFoundError':
      return 'missing';
    case 'NotReadableError':
    case 'TrackStartError':
    case 'AbortError':
      return 'busy';
    default:
      return 'failed';
  }
}
