/** After the call: why it ended, and the way back. */
import type { Actions } from '../actions';
import { h, setText } from '../dom';
import { mark } from '../icons';
import { formatDuration, formatMs, median } from '../latency';
import type { State } from '../model';

export class EndedView {
  readonly element: HTMLElement;
  private readonly title = h('h1', { tabindex: -1 });
  private readonly text = h('p', { class: 'lead' });
  private readonly facts = h('dl', { class: 'facts' });
  private readonly again: HTMLButtonElement;

  constructor(actions: Actions) {
    this.again = h('button', { type: 'button', class: 'button primary', onclick: () => actions.join() });
    const back = h(
      'button',
      { type: 'button', class: 'button quiet', onclick: () => actions.toLobby() },
      'Change name or room',
    );
    const brand = h('div', { class: 'brand' }, mark(28), h('span', {}, 'Greenroom'));
    const card = h(
      'div',
      { class: 'ended-card' },
      brand,
      this.title,
      this.text,
      this.facts,
      h('div', { class: 'join-row' }, this.again, back),
    );
    this.element = h('main', { class: 'ended' }, card);
  }

  focus(): void {
    this.title.focus({ preventScroll: true });
  }

  update(state: State): void {
    const { problem, joinedAt, endedAt, turns, room } = state;
    if (!problem) return;
    this.element.dataset.kind = problem.kind;
    setText(this.title, problem.title);
    setText(this.text, problem.text);
    setText(this.again, problem.action);
    const facts: [string, string][] = [['Room', room]];
    if (joinedAt && endedAt) facts.push(['Time', formatDuration(endedAt - joinedAt)]);
    if (turns.length)
      facts.push(['Answers', String(turns.length)], ['Median', formatMs(median(turns.map((turn) => turn.total)))]);
    this.facts.replaceChildren(...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
  }
}
