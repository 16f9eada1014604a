import { describe, expect, it } from 'vitest';
import { formatDuration, formatMs, median, parseTurn, shares } from '../src/latency';
import { fromStats } from '../src/round-trip';

const message = {
  turn: 2,
  user: 'hi',
  agent: 'hello',
  ms: { endpointing: 200, transcription: 50, llm_first_token: 100, tts_first_audio: 50, total: 400 },
  interrupted: false,
};

describe('turn messages', () => {
  it('are read', () => {
    expect(parseTurn(JSON.stringify(message))).toMatchObject({
      turn: 2,
      total: 400,
      ms: { endpointing: 200 },
      interrupted: false,
    });
  });

  it('may lack stages and the total', () => {
    expect(
      parseTurn('{"ms": {"endpointing": 10, "llm_first_token": 5, "other": 7, "transcription": null}}'),
    ).toMatchObject({ total: 15 });
  });

  it.each(['', 'no', 'null', '[]', '{}', '{"ms": {}}', '{"ms": {"total": -1}}', '{"ms": {"total": "soon"}}'])(
    'drop %j',
    (text) => {
      expect(parseTurn(text)).toBeNull();
    },
  );

  it('are divided into shares that never pass the whole', () => {
    const parts = shares(parseTurn(JSON.stringify({ ...message, ms: { ...message.ms, total: 300 } }))!);
    expect(parts.map(({ share }) => share)).toEqual([0.5, 0.125, 0.25, 0.125]);
    expect(shares(parseTurn('{"ms": {"total": 0}}')!)).toEqual([]);
  });
});

describe('durations', () => {
  it.each([
    [null, '–'],
    [0, '0 ms'],
    [0.4, '<1 ms'],
    [84.4, '84 ms'],
    [999.4, '999 ms'],
    [999.6, '1.00 s'],
    [1_240, '1.24 s'],
    [12_340, '12.3 s'],
    [NaN, '–'],
  ])('%s ms reads %s', (ms, text) => {
    expect(formatMs(ms)).toBe(text.replace(' ', '\u202F'));
  });

  it('of calls', () => {
    expect([0, 65_000, 3_729_000].map(formatDuration)).toEqual(['0:00', '1:05', '1:02:09']);
  });

  it('have a median', () => {
    expect([median([]), median([3]), median([9, 1, 4]), median([1, 2, 3, 10])]).toEqual([null, 3, 4, 2.5]);
  });
});

describe('round trip', () => {
  it('is that of the nominated pair', () => {
    const pair = { type: 'candidate-pair', state: 'succeeded' };
    expect(
      fromStats([
        { ...pair, currentRoundTripTime: 0.2 },
        { ...pair, nominated: true, currentRoundTripTime: 0.012 },
      ]),
    ).toBeCloseTo(12);
    expect(fromStats([{ ...pair, currentRoundTripTime: 0 }])).toBe(0.5);
    expect(fromStats([{ ...pair, state: 'failed', currentRoundTripTime: 1 }, { type: 'transport' }])).toBeNull();
  });
});
