/** The conversation so far, spoken and typed, by speaker. */
import { groupBySpeaker, type Entry, type Group } from '../captions';
import { h, setChildren, setText } from '../dom';
import { icon } from '../icons';
import type { State } from '../model';

const NEAR_END = 48;

interface Block {
  element: HTMLElement;
  body: HTMLElement;
  entries: Map<string, HTMLElement>;
}

export class ConversationView {
  readonly element: HTMLElement;
  /** Read to screen readers: finished sentences of others and chat, never partial words, never one's own. */
  readonly announcer = h('div', { class: 'sr-only', 'aria-live': 'polite' });
  private readonly list = h('div', { class: 'log', tabindex: 0, role: 'region', 'aria-label': 'Conversation so far' });
  private readonly empty = h(
    'div',
    { class: 'log-empty' },
    h('p', { class: 'log-empty-title' }, 'Nothing said yet'),
    h('p', {}, 'What is spoken and typed in this room shows up here, with names.'),
  );
  private readonly latest: HTMLButtonElement;
  private readonly blocks = new Map<string, Block>();
  private readonly announced = new Set<string>();
  private entries: readonly Entry[] = [];
  private following = true;

  constructor() {
    this.latest = h(
      'button',
      { type: 'button', class: 'button to-latest', onclick: () => this.toEnd() },
      icon('down', 16),
      'Latest',
    );
    this.latest.hidden = true;
    this.list.addEventListener('scroll', () => {
      this.following = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < NEAR_END;
      this.latest.hidden = this.following;
    });
    this.element = h('div', { class: 'conversation' }, this.list, this.empty, this.latest, this.announcer);
    new ResizeObserver(() => this.following && this.toEnd()).observe(this.list);
  }

  update({ entries }: State): void {
    if (entries === this.entries) return;
    if (!entries.length) this.announced.clear();
    this.entries = entries;
    this.empty.hidden = entries.length > 0;
    const groups = groupBySpeaker(entries);
    const keys = new Set(groups.map((group) => group.key));
    for (const key of this.blocks.keys()) if (!keys.has(key)) this.blocks.delete(key);
    setChildren(
      this.list,
      groups.map((group) => this.block(group)),
    );
    if (this.following) this.toEnd();
    for (const entry of entries.slice(-8)) this.announce(entry);
  }

  private toEnd(): void {
    this.list.scrollTop = this.list.scrollHeight;
    this.latest.hidden = true;
  }

  private block(group: Group): HTMLElement {
    let block = this.blocks.get(group.key);
    if (!block) {
      const time = h('time', { datetime: new Date(group.at).toISOString() }, clock(group.at));
      const head = h(
        'h3',
        { class: 'log-head' },
        h('span', { class: 'log-name' }, group.isLocal ? `${group.name} (you)` : group.name),
        time,
      );
      const body = h('div', { class: 'log-body' });
      block = {
        element: h('section', { class: group.isLocal ? 'log-group mine' : 'log-group' }, head, body),
        body,
        entries: new Map(),
      };
      this.blocks.set(group.key, block);
    }
    const { entries, body } = block;
    setChildren(
      body,
      group.entries.map((entry) => {
        const key = `${entry.kind}:${entry.id}`;
        let line = entries.get(key);
        if (!line) entries.set(key, (line = h('p', { class: `entry ${entry.kind}`, 'data-id': entry.id })));
        setText(line, entry.text);
        line.classList.toggle('is-partial', !entry.final);
        return line;
      }),
    );
    return block.element;
  }

  private announce(entry: Entry): void {
    const key = `${entry.kind}:${entry.id}`;
    if (!entry.final || entry.isLocal || this.announced.has(key)) return;
    this.announced.add(key);
    this.announcer.append(h('p', {}, `${entry.name}: ${entry.text}`));
    while (this.announcer.childElementCount > 3) this.announcer.firstElementChild!.remove();
  }
}

function clock(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}
