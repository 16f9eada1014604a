/**
 * The conversation: what was said (live captions) and what was typed (chat), in one list.
 *
 * A spoken segment arrives as a sequence of texts under one segment id; each replaces the one before, the final one settles.
 */

export interface Entry {
  id: string;
  kind: 'speech' | 'chat';
  identity: string;
  name: string;
  text: string;
  final: boolean;
  isLocal: boolean;
  /** Milliseconds since the epoch, of the first text. */
  at: number;
  /** Came as the older transcription packet and not as a text stream. */
  legacy?: boolean;
}

/** Entries kept; older ones are dropped so that a long call stays quick. */
export const MAX_ENTRIES = 400;

/** A caption that never became final is shown as live for this long (milliseconds). */
export const LIVE_FOR = 6_000;

export function addSpeech(entries: readonly Entry[], update: Entry): Entry[] {
  const known = entries.findIndex((entry) => entry.kind === 'speech' && entry.id === update.id);
  if (known >= 0) {
    const before = entries[known]!;
    if (before.final && !update.final) return [...entries];
    const text = update.text.trim() ? update.text : update.final ? before.text : update.text;
    const next = [...entries];
    if (text.trim()) next[known] = { ...before, text, final: update.final, name: update.name };
    else next.splice(known, 1);
    return next;
  }
  let kept = [...entries];
  if (update.legacy) {
    // Senders that speak both protocols send every segment twice, under different ids.
    if (kept.some((entry) => entry.kind === 'speech' && entry.identity === update.identity && !entry.legacy))
      return kept;
  } else {
    kept = kept.filter((entry) => !(entry.legacy && entry.identity === update.identity));
  }
  if (!update.text.trim()) return kept;
  // Who begins a new segment has finished the last one, whether its final text came or not.
  kept = kept.map((entry) =>
    entry.kind === 'speech' && entry.identity === update.identity && !entry.final ? { ...entry, final: true } : entry,
  );
  return [...kept, update].slice(-MAX_ENTRIES);
}

export function addChat(entries: readonly Entry[], message: Entry): Entry[] {
  const known = entries.findIndex((entry) => entry.kind === 'chat' && entry.id === message.id);
  // An agent may both say its answer and type it: once is enough.
  const last = entries.findLast((entry) => entry.identity === message.identity);
  if (last?.kind === 'speech' && words(last.text) === words(message.text)) return [...entries];
  if (known < 0) return [...entries, message].slice(-MAX_ENTRIES);
  const next = [...entries];
  next[known] = { ...next[known]!, text: message.text };
  return next;
}

function words(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

/** The newest caption of each speaker, oldest first: what the strip under the stage shows. At most `limit`. */
export function liveCaptions(entries: readonly Entry[], limit: number): Entry[] {
  const newest = new Map<string, Entry>();
  for (let index = entries.length - 1; index >= 0 && newest.size < limit; index--) {
    const entry = entries[index]!;
    if (entry.kind === 'speech' && !newest.has(entry.identity)) newest.set(entry.identity, entry);
  }
  return [...newest.values()].reverse();
}

export interface Group {
  key: string;
  identity: string;
  name: string;
  isLocal: boolean;
  at: number;
  entries: Entry[];
}

/** Consecutive entries of one person within `gap` milliseconds share a heading. */
export function groupBySpeaker(entries: readonly Entry[], gap = 60_000): Group[] {
  const groups: Group[] = [];
  for (const entry of entries) {
    const last = groups.at(-1);
    if (last && last.identity === entry.identity && entry.at - last.entries.at(-1)!.at < gap) last.entries.push(entry);
    else {
      const { identity, name, isLocal, at } = entry;
      groups.push({ key: `${entry.kind}:${entry.id}`, identity, name, isLocal, at, entries: [entry] });
    }
  }
  return groups;
}

/** The text streams of one segment: a later stream replaces an earlier one that is still being read. */
export class SegmentStreams {
  private readonly newest = new Map<string, number>();
  private count = 0;

  /** A stream of this segment begins. Returns a check: is it still the newest? */
  begin(segment: string): () => boolean {
    const mine = ++this.count;
    this.newest.delete(segment);
    this.newest.set(segment, mine);
    if (this.newest.size > MAX_ENTRIES) this.newest.delete(this.newest.keys().next().value!);
    return () => this.newest.get(segment) === mine;
  }
}
