/** The strip under the stage: what is being said right now, one line pair per speaker, in a place that is always kept. */
import { LIVE_FOR, liveCaptions, type Entry } from '../captions';
import { h, setChildren, setText } from '../dom';
import type { State } from '../model';

const SPEAKERS = 2;

interface Line {
  element: HTMLElement;
  name: HTMLElement;
  text: HTMLElement;
  key: string;
}

export class CaptionsView {
  readonly element = h('div', { class: 'captions', role: 'group', 'aria-label': 'Live captions' });
  private readonly lines = new Map<string, Line>();
  /** When each segment's text last changed (performance.now): it fades some time after. */
  private readonly changed = new Map<string, { text: string; at: number }>();
  private timer = 0;
  private state: State | null = null;

  update(state: State): void {
    this.state = state;
    this.element.classList.toggle('is-off', !state.captionsOn);
    const now = performance.now();
    const newest = liveCaptions(state.entries, SPEAKERS);
    for (const entry of newest) {
      const known = this.changed.get(entry.id);
      if (known?.text !== entry.text) this.changed.set(entry.id, { text: entry.text, at: now });
    }
    for (const id of [...this.changed.keys()]) if (!newest.some((entry) => entry.id === id)) this.changed.delete(id);
    const fresh = newest.filter((entry) => now - this.changed.get(entry.id)!.at < LIVE_FOR);
    setChildren(this.element, state.captionsOn ? fresh.map((entry) => this.line(entry)) : []);
    window.clearTimeout(this.timer);
    if (fresh.length) this.timer = window.setTimeout(() => this.state && this.update(this.state), 500);
  }

  private line(entry: Entry): HTMLElement {
    let line = this.lines.get(entry.identity);
    if (!line) {
      const name = h('span', { class: 'caption-name' });
      const text = h('span', { class: 'caption-text' });
      line = {
        name,
        text,
        key: '',
        element: h('p', { class: 'caption' }, name, h('span', { class: 'caption-window' }, text)),
      };
      this.lines.set(entry.identity, line);
    }
    setText(line.name, entry.isLocal ? 'You' : entry.name);
    setText(line.text, entry.text);
    line.element.classList.toggle('is-mine', entry.isLocal);
    line.element.classList.toggle('is-partial', !entry.final);
    line.element.dataset.segment = entry.id;
    return line.element;
  }
}
