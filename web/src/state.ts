/** Every change of the page's state, as one pure function. */
import { addChat, addSpeech, type Entry } from './captions';
import { MAX_TURNS, type Turn } from './latency';
import type { AgentState, DeviceKind, DeviceStatus, Link, Notice, Person, State } from './model';
import type { Problem } from './problems';

export type Action =
  | { type: 'form'; name?: string; room?: string; fixed?: boolean }
  | { type: 'joining' }
  | { type: 'joined'; room: string; at: number }
  | { type: 'ended'; problem: Problem; at: number }
  | { type: 'lobby'; problem?: Problem | null }
  | { type: 'link'; link: Link }
  | { type: 'device'; kind: DeviceKind; status: DeviceStatus }
  | { type: 'people'; people: readonly Person[] }
  | { type: 'speech'; entry: Entry }
  | { type: 'chat'; entry: Entry }
  | { type: 'turn'; turn: Turn }
  | { type: 'round-trip'; ms: number | null }
  | { type: 'notice'; notice: Notice | null }
  | { type: 'audio-blocked'; blocked: boolean }
  | { type: 'captions'; on: boolean }
  | { type: 'panel'; open: boolean };

export function initialState(name: string, room: string, panelOpen: boolean): State {
  return {
    phase: 'lobby',
    name,
    room,
    fixed: false,
    link: 'good',
    devices: { microphone: 'off', camera: 'off' },
    people: [],
    entries: [],
    turns: [],
    roundTrip: null,
    problem: null,
    notice: null,
    audioBlocked: false,
    captionsOn: true,
    panelOpen,
    unread: 0,
    joinedAt: null,
    endedAt: null,
  };
}

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case 'form':
      return {
        ...state,
        name: action.name ?? state.name,
        room: action.room ?? state.room,
        fixed: action.fixed ?? state.fixed,
      };
    case 'joining':
      return { ...state, phase: 'joining', problem: null, notice: null };
    case 'joined':
      return {
        ...state,
        phase: 'call',
        room: action.room,
        link: 'good',
        entries: [],
        turns: [],
        roundTrip: null,
        unread: 0,
        problem: null,
        joinedAt: action.at,
        endedAt: null,
      };
    case 'ended':
      if (state.phase === 'lobby') return state;
      // A call that never began goes back to the form: what was typed is still there.
      if (state.phase === 'joining') return { ...state, phase: 'lobby', problem: action.problem };
      return {
        ...state,
        phase: 'ended',
        problem: action.problem,
        people: [],
        link: 'good',
        roundTrip: null,
        notice: null,
        audioBlocked: false,
        endedAt: action.at,
      };
    case 'lobby':
      return { ...state, phase: 'lobby', problem: action.problem ?? null, people: [], notice: null };
    case 'link':
      return state.link === action.link ? state : { ...state, link: action.link };
    case 'device':
      return { ...state, devices: { ...state.devices, [action.kind]: action.status } };
    case 'people':
      return { ...state, people: action.people };
    case 'speech':
      return withEntries(state, addSpeech(state.entries, action.entry), 0);
    case 'chat': {
      const entries = addChat(state.entries, action.entry);
      return withEntries(state, entries, !action.entry.isLocal && entries.at(-1) === action.entry ? 1 : 0);
    }
    case 'turn':
      return { ...state, turns: [...state.turns, action.turn].slice(-MAX_TURNS) };
    case 'round-trip':
      return { ...state, roundTrip: action.ms };
    case 'notice':
      return { ...state, notice: action.notice };
    case 'audio-blocked':
      return { ...state, audioBlocked: action.blocked };
    case 'captions':
      return { ...state, captionsOn: action.on };
    case 'panel':
      return { ...state, panelOpen: action.open, unread: action.open ? 0 : state.unread };
  }
}

function withEntries(state: State, entries: readonly Entry[], unread: number): State {
  return { ...state, entries, unread: state.panelOpen ? 0 : state.unread + unread };
}

const AGENT_STATES: readonly string[] = ['initializing', 'listening', 'thinking', 'speaking', 'idle'];

/** The value of `lk.agent.state`; null when it is unset or none of the known ones. */
export function agentStateOf(value: string | undefined): AgentState | null {
  return value !== undefined && AGENT_STATES.includes(value) ? (value as AgentState) : null;
}

export const AGENT_STATE_NAMES: Record<AgentState, string> = {
  initializing: 'Getting ready',
  listening: 'Listening',
  thinking: 'Thinking',
  speaking: 'Speaking',
  idle: 'Idle',
};
