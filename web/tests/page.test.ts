import { describe, expect, it } from 'vitest';
import { gridShape } from '../src/grid';
import { fillBands } from '../src/levels';
import { deviceProblem, deviceStatusOf, problem } from '../src/problems';
import { claimsOf, passFromAddress } from '../src/token';

describe('the grid', () => {
  it.each([
    [1, 880, 500, 1],
    [2, 880, 500, 2],
    [3, 880, 500, 2],
    [4, 880, 500, 2],
    [5, 880, 500, 3],
    [6, 1200, 500, 3],
    [2, 336, 420, 1],
    [4, 336, 420, 2],
  ])('of %i tiles in %i x %i has %i columns', (count, width, height, columns) => {
    const shape = gridShape(count, width, height, 12);
    const rows = Math.ceil(count / columns);
    expect(shape.columns).toBe(columns);
    expect(shape.width * columns + 12 * (columns - 1)).toBeLessThanOrEqual(width);
    expect(shape.height * rows + 12 * (rows - 1)).toBeLessThanOrEqual(height);
  });

  it('is nothing in no room', () => {
    expect(gridShape(3, 0, 0, 12).width).toBe(0);
  });
});

describe('passes in the address', () => {
  const payload = btoa(JSON.stringify({ sub: 'ada', video: { room: 'lounge' } })).replace(/=+$/, '');

  it('come from the fragment', () => {
    const pass = passFromAddress({ hash: `#token=h.${payload}.s`, origin: 'https://calls.example' });
    expect(pass).toEqual({ url: 'wss://calls.example', token: `h.${payload}.s`, room: 'lounge', name: 'ada' });
  });

  it('are optional, and unreadable ones have no room', () => {
    expect(passFromAddress({ hash: '#url=ws://x', origin: 'http://x' })).toBeNull();
    expect(claimsOf('nonsense')).toEqual({ room: '', name: '' });
  });
});

describe('problems', () => {
  it('name the device and a way to join all the same', () => {
    const refused = new DOMException('denied', 'NotAllowedError');
    const text = deviceProblem('microphone', deviceStatusOf(Object.assign(refused)));
    expect(text).toMatch(/microphone.*(https|blocked).*without it/s);
    expect(deviceProblem('camera', 'on')).toBe('');
  });

  it('carry what the server said as a sentence', () => {
    expect(problem('unknown', 'room name is too long').text).toBe('Room name is too long.');
  });
});

describe('bands of a voice', () => {
  it('react where the sound is', () => {
    const bytes = new Uint8Array(512);
    bytes.fill(255, 2, 6); // about 100 to 280 Hz at 48 kHz
    const bands = new Float32Array(5);
    fillBands(bytes, 48_000, bands);
    expect(bands[0]).toBeGreaterThan(0.6);
    expect(bands[4]).toBe(0);
  });
});
