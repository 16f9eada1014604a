/** Holds the state and tells listeners, once per frame's worth of changes. */
import type { State } from './model';
import { reduce, type Action } from './state';

export type Listener = (state: State, before: State) => void;

export class Store {
  private told: State;
  private scheduled = false;
  private readonly listeners = new Set<Listener>();

  constructor(private current: State) {
    this.told = current;
  }

  get state(): State {
    return this.current;
  }

  dispatch(action: Action): void {
    this.current = reduce(this.current, action);
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => this.tell());
  }

  /** Calls the listener now and after every change. Returns the function that ends it. */
  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    listener(this.current, this.current);
    return () => void this.listeners.delete(listener);
  }

  private tell(): void {
    this.scheduled = false;
    const before = this.told;
    this.told = this.current;
    for (const listener of this.listeners) listener(this.told, before);
  }
}
