import { describe, expect, it } from 'vitest';
import {
  addChat,
  addSpeech,
  groupBySpeaker,
  liveCaptions,
  MAX_ENTRIES,
  SegmentStreams,
  type Entry,
} from '../src/captions';

const said = (id: string, identity: string, text: string, final: boolean, more: Partial<Entry> = {}): Entry => ({
  id,
  kind: 'speech',
  identity,
  name: identity,
  text,
  final,
  isLocal: false,
  at: 0,
  ...more,
});
const typed = (id: string, identity: string, text: string): Entry => ({
  ...said(id, identity, text, true),
  kind: 'chat',
});
const texts = (entries: readonly Entry[]) => entries.map((entry) => entry.text);

describe('captions', () => {
  it('replaces partial texts of a segment in place and settles with the final one', () => {
    let entries = addSpeech([], said('a', 'ada', 'what', false));
    entries = addSpeech(entries, said('b', 'kitt', 'hello', true));
    entries = addSpeech(entries, said('a', 'ada', 'what time', false, { at: 9 }));
    expect(texts(entries)).toEqual(['what time', 'hello']);
    entries = addSpeech(entries, said('a', 'ada', 'What time is it?', true));
    expect(entries[0]).toMatchObject({ text: 'What time is it?', final: true, at: 0 });
  });

  it('keeps a final text when a late partial arrives', () => {
    const entries = addSpeech([said('a', 'ada', 'Done.', true)], said('a', 'ada', 'do', false));
    expect(entries[0]).toMatchObject({ text: 'Done.', final: true });
  });

  it('keeps what was shown when the final text is empty, and drops a withdrawn partial', () => {
    const partial = [said('a', 'ada', 'so far', false)];
    expect(addSpeech(partial, said('a', 'ada', '', true))[0]).toMatchObject({ text: 'so far', final: true });
    expect(addSpeech(partial, said('a', 'ada', '', false))).toEqual([]);
  });

  it('makes no entry for silence', () => {
    expect(addSpeech([], said('a', 'ada', '  ', true))).toEqual([]);
  });

  it("settles the speaker's last segment when the next begins", () => {
    const entries = addSpeech(
      [said('a', 'ada', 'one', false), said('k', 'kitt', 'hm', false)],
      said('b', 'ada', 'two', false),
    );
    expect(entries.map(({ final }) => final)).toEqual([true, false, false]);
  });

  it('shows a segment once when its sender uses the older packets as well', () => {
    const old = addSpeech([], said('L1', 'kitt', 'hello', true, { legacy: true }));
    const both = addSpeech(old, said('S1', 'kitt', 'hello', true));
    expect(both.map(({ id }) => id)).toEqual(['S1']);
    expect(addSpeech(both, said('L2', 'kitt', 'again', false, { legacy: true }))).toEqual(both);
    expect(addSpeech(both, said('L3', 'bob', 'hi', true, { legacy: true }))).toHaveLength(2);
  });

  it('forgets the oldest entries of a long call', () => {
    let entries: Entry[] = [];
    for (let index = 0; index < MAX_ENTRIES + 5; index++)
      entries = addSpeech(entries, said(`${index}`, 'ada', `${index}`, true));
    expect(entries).toHaveLength(MAX_ENTRIES);
    expect(entries[0]!.text).toBe('5');
  });

  it('gives the newest caption of each speaker, oldest first', () => {
    const entries = [
      said('1', 'ada', 'old', true),
      said('2', 'kitt', 'answer', true),
      typed('3', 'kitt', 'typed'),
      said('4', 'ada', 'new', false),
      said('5', 'bob', 'hey', true),
    ];
    expect(texts(liveCaptions(entries, 2))).toEqual(['new', 'hey']);
    expect(texts(liveCaptions(entries, 9))).toEqual(['answer', 'new', 'hey']);
  });
});

describe('chat', () => {
  it('appends, and replaces a message sent again under its id', () => {
    const entries = addChat(addChat([], typed('1', 'ada', 'helo')), typed('1', 'ada', 'hello'));
    expect(texts(entries)).toEqual(['hello']);
  });
});

describe('an answer that is said and typed', () => {
  it('shows once', () => {
    const entries = [said('1', 'kitt', 'It is five past one.', false)];
    expect(addChat(entries, typed('2', 'kitt', 'It is five past one!'))).toEqual(entries);
    expect(addChat(entries, typed('2', 'ada', 'It is five past one.'))).toHaveLength(2);
  });
});

describe('groups', () => {
  it('put consecutive entries of a speaker under one heading until a pause', () => {
    const entries = [
      said('1', 'ada', 'a', true),
      typed('2', 'ada', 'b'),
      said('3', 'kitt', 'c', true),
      said('4', 'kitt', 'd', true, { at: 90_000 }),
    ];
    expect(groupBySpeaker(entries).map((group) => texts(group.entries))).toEqual([['a', 'b'], ['c'], ['d']]);
  });
});

describe('streams of a segment', () => {
  it('lets only the newest speak', () => {
    const streams = new SegmentStreams();
    const first = streams.begin('a');
    const other = streams.begin('b');
    const second = streams.begin('a');
    expect([first(), other(), second()]).toEqual([false, true, true]);
  });
});
