/** How long the last answer took, and where the time went. */
import { h, setAttribute, setText } from '../dom';
import { formatMs, median, shares, STAGE_NAMES, STAGES, type Stage } from '../latency';
import type { State } from '../model';

export class LatencyView {
  readonly element: HTMLElement;
  private readonly total = h('span', { class: 'latency-total' });
  private readonly note = h('span', { class: 'latency-note' });
  private readonly parts = new Map<Stage, { bar: HTMLElement; value: HTMLElement }>();

  constructor() {
    const bar = h('div', { class: 'latency-bar', 'aria-hidden': 'true' });
    const legend = h('dl', { class: 'latency-legend' });
    for (const stage of STAGES) {
      const part = { bar: h('i', { class: stage }), value: h('dd') };
      this.parts.set(stage, part);
      bar.append(part.bar);
      legend.append(
        h('div', { class: stage, title: STAGE_NAMES[stage].long }, h('dt', {}, STAGE_NAMES[stage].short), part.value),
      );
    }
    const head = h(
      'div',
      { class: 'latency-head' },
      h('h3', { class: 'latency-title' }, 'Answer time'),
      this.total,
      this.note,
    );
    this.element = h('section', { class: 'latency', 'aria-label': 'Latency of the last answer' }, head, bar, legend);
  }

  update({ turns }: State): void {
    const last = turns.at(-1);
    setText(this.total, formatMs(last?.total ?? null));
    setAttribute(this.element, 'data-turns', String(turns.length));
    setText(this.note, noteOf(turns));
    setAttribute(this.note, 'title', last?.error || null);
    const widths = new Map((last ? shares(last) : []).map(({ stage, share }) => [stage, share]));
    for (const [stage, { bar, value }] of this.parts) {
      bar.style.setProperty('--share', String(widths.get(stage) ?? 0));
      setText(value, formatMs(last?.ms[stage] ?? null));
    }
  }
}

function noteOf(turns: State['turns']): string {
  const last = turns.at(-1);
  if (!last) return 'no answer yet';
  if (last.error) return 'failed';
  if (last.interrupted) return 'interrupted';
  if (turns.length === 1) return 'first answer';
  return `median of ${turns.length}: ${formatMs(median(turns.map((turn) => turn.total)))}`;
}
