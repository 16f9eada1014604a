/** The tiles of everyone in the room, laid out as large as they go, and a place kept for the agent that is to come. */
import type { Actions } from '../actions';
import { h, setChildren, setText } from '../dom';
import { gridShape } from '../grid';
import { icon } from '../icons';
import type { Person, State } from '../model';
import { Tile } from './tile';

const GAP = 12;
/** After this long without company the waiting tile says what to check (milliseconds). */
const PATIENCE = 12_000;

export class StageView {
  readonly element: HTMLElement;
  private readonly grid = h('div', { class: 'grid' });
  private readonly waitingTitle = h('p', { class: 'waiting-title' }, 'Waiting for the agent');
  private readonly waitingText = h('p', { class: 'waiting-text' });
  private readonly waiting: HTMLElement;
  private readonly tiles = new Map<string, Tile>();
  private patience = 0;

  constructor(actions: Actions) {
    const copy = h(
      'button',
      { type: 'button', class: 'button quiet', onclick: () => actions.copyLink() },
      icon('link', 18),
      'Copy invite link',
    );
    const dots = h(
      'div',
      { class: 'voice waiting-dots', 'aria-hidden': 'true' },
      h('i'),
      h('i'),
      h('i'),
      h('i'),
      h('i'),
    );
    this.waiting = h('article', { class: 'tile waiting' }, dots, this.waitingTitle, this.waitingText, copy);
    this.element = h('div', { class: 'tiles' }, this.grid);
    new ResizeObserver(() => this.layOut()).observe(this.element);
  }

  update({ people }: State): void {
    const shown: HTMLElement[] = [];
    const keys = new Set<string>();
    const place = (key: string, kind: 'person' | 'screen', person: Person) => {
      let tile = this.tiles.get(key);
      if (!tile) this.tiles.set(key, (tile = new Tile(kind)));
      tile.update(person);
      keys.add(key);
      shown.push(tile.element);
    };
    for (const person of people) if (person.screen) place(`screen:${person.identity}`, 'screen', person);
    for (const person of people) place(`person:${person.identity}`, 'person', person);
    const alone = people.length === 1 && people[0]!.isLocal;
    if (alone) shown.unshift(this.waiting);
    this.wait(alone);
    // A talk between two: the other one has the stage, oneself a corner of it.
    this.grid.classList.toggle(
      'duo',
      people.length <= 2 && people.some((person) => person.isLocal) && !people.some((person) => person.screen),
    );
    setChildren(this.grid, shown);
    for (const [key, tile] of this.tiles) {
      if (keys.has(key)) continue;
      tile.close();
      this.tiles.delete(key);
    }
    this.layOut();
  }

  private wait(alone: boolean): void {
    if (!alone) {
      window.clearTimeout(this.patience);
      this.patience = 0;
    } else if (!this.patience) {
      setText(this.waitingText, 'It joins by itself as soon as a worker takes the room.');
      this.patience = window.setTimeout(
        () => setText(this.waitingText, 'None has come yet. Start one with greenroom dev app.py.'),
        PATIENCE,
      );
    }
  }

  private layOut(): void {
    const { clientWidth, clientHeight } = this.element;
    const { width, height } = gridShape(this.grid.childElementCount, clientWidth, clientHeight, GAP);
    if (!width) return;
    this.grid.style.setProperty('--tile-width', `${width}px`);
    this.grid.style.setProperty('--tile-height', `${height}px`);
  }
}
