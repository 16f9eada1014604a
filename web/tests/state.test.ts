import { describe, expect, it } from 'vitest';
import type { Entry } from '../src/captions';
import { problem } from '../src/problems';
import { agentStateOf, initialState, reduce, type Action } from '../src/state';

const run = (actions: Action[], panelOpen = false) => actions.reduce(reduce, initialState('Ada', 'lounge', panelOpen));
const joined: Action[] = [{ type: 'joining' }, { type: 'joined', room: 'lounge', at: 1 }];
const message = (id: string, isLocal = false): Action => {
  const entry: Entry = { id, kind: 'chat', identity: 'x', name: 'X', text: 'hi', final: true, isLocal, at: 0 };
  return { type: 'chat', entry };
};

describe('phases', () => {
  it('go from the form into the call', () => {
    expect(run(joined)).toMatchObject({ phase: 'call', room: 'lounge', joinedAt: 1 });
  });

  it('a join that fails goes back to the form with the reason, and what was typed', () => {
    const state = run([{ type: 'joining' }, { type: 'ended', problem: problem('bad-token'), at: 2 }]);
    expect(state).toMatchObject({ phase: 'lobby', name: 'Ada', problem: { kind: 'bad-token' } });
  });

  it('a call that ends says why and keeps its figures', () => {
    const turn = { turn: 1, user: '', agent: '', ms: {}, total: 9, interrupted: false, error: '' };
    const state = run([...joined, { type: 'turn', turn }, { type: 'ended', problem: problem('lost'), at: 5 }]);
    expect(state).toMatchObject({ phase: 'ended', problem: { kind: 'lost' }, endedAt: 5, turns: [turn], people: [] });
  });

  it('joining again begins a fresh conversation', () => {
    const state = run([...joined, message('1'), { type: 'ended', problem: problem('left'), at: 5 }, ...joined]);
    expect(state).toMatchObject({ phase: 'call', entries: [], turns: [], unread: 0, problem: null, endedAt: null });
  });

  it('an end that comes after going back to the form changes nothing', () => {
    expect(run([{ type: 'ended', problem: problem('lost'), at: 1 }]).phase).toBe('lobby');
  });
});

describe('unread messages', () => {
  it('are counted while the conversation is closed, own ones not', () => {
    expect(run([...joined, message('1'), message('2', true), message('3')]).unread).toBe(2);
  });

  it('are read by opening it', () => {
    expect(run([...joined, message('1'), { type: 'panel', open: true }, message('2')]).unread).toBe(0);
  });
});

describe('agent state', () => {
  it('is one of the known ones or nothing', () => {
    expect(['thinking', 'asleep', undefined].map(agentStateOf)).toEqual(['thinking', null, null]);
  });
});
