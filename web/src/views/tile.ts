/** One participant: the picture, or a face for those without one; name, microphone, and an agent's state and voice. */
import { h, setAttribute, setText } from '../dom';
import { icon } from '../icons';
import { watchLevels } from '../levels';
import type { Person, Picture } from '../model';
import { AGENT_STATE_NAMES } from '../state';

const VOICE_BANDS = 5;
/** Bands come lowest first; the tallest belongs in the middle. */
const BAND_ORDER = [3, 1, 0, 2, 4];

export class Tile {
  readonly element: HTMLElement;
  private readonly video = h('video', {
    autoplay: true,
    playsinline: true,
    muted: true,
    'aria-hidden': 'true',
    tabindex: -1,
  });
  private readonly initial = h('span', { class: 'avatar', 'aria-hidden': 'true' });
  private readonly bars = Array.from({ length: VOICE_BANDS }, () => h('i'));
  private readonly voice = h('div', { class: 'voice', 'aria-hidden': 'true' }, ...this.bars);
  private readonly name = h('span', { class: 'tile-name' });
  private readonly muted = h(
    'span',
    { class: 'tile-muted' },
    icon('microphoneOff', 16),
    h('span', { class: 'sr-only' }, 'microphone off'),
  );
  private readonly poor = h(
    'span',
    { class: 'tile-poor' },
    icon('signal', 16),
    h('span', { class: 'sr-only' }, 'poor connection'),
  );
  private readonly state = h('span', { class: 'state-text' });
  private readonly chip = h('span', { class: 'state-chip' }, this.state);
  private shownInitial: string | null = null;
  private picture: Picture | null = null;
  private audio: MediaStreamTrack | null = null;
  private stopLevels: (() => void) | null = null;

  constructor(readonly kind: 'person' | 'screen') {
    const plate = h('div', { class: 'plate' }, this.muted, this.name, this.poor);
    const foot = h('div', { class: 'tile-foot' }, plate, this.chip);
    this.element = h('article', { class: `tile ${kind}` }, this.initial, this.voice, this.video, foot);
  }

  update(person: Person): void {
    const screen = this.kind === 'screen';
    const picture = screen ? person.screen : person.camera;
    this.show(picture);
    this.listen(screen ? null : person.audio);
    const name = screen ? `${person.name}, screen` : person.isLocal ? 'You' : person.name;
    setText(this.name, name);
    this.drawInitial(initialOf(person.name));
    this.muted.hidden = screen || person.microphoneOn || (person.isAgent && !person.microphoneOn);
    this.poor.hidden = !person.poorConnection;
    const { element } = this;
    element.classList.toggle('has-video', picture !== null);
    element.classList.toggle('is-agent', person.isAgent && !screen);
    element.classList.toggle('is-local', person.isLocal && !screen);
    element.classList.toggle('is-speaking', person.speaking && !screen);
    setAttribute(element, 'data-identity', person.identity);
    setAttribute(element, 'data-state', person.isAgent ? (person.agentState ?? 'none') : null);
    this.chip.hidden = screen || !person.isAgent || person.agentState === null;
    setText(this.state, person.agentState ? AGENT_STATE_NAMES[person.agentState] : '');
    setAttribute(
      element,
      'aria-label',
      [name, person.isAgent ? 'agent' : '', this.state.textContent].filter(Boolean).join(', '),
    );
  }

  close(): void {
    this.show(null);
    this.listen(null);
    this.element.remove();
  }

  private show(picture: Picture | null): void {
    if (picture === this.picture) return;
    this.picture?.detach(this.video);
    this.picture = picture;
    picture?.attach(this.video);
    this.video.muted = true; // sound has elements of its own; a picture must never echo
  }

  private listen(audio: MediaStreamTrack | null): void {
    if (audio === this.audio) return;
    this.stopLevels?.();
    this.stopLevels = null;
    this.audio = audio;
    this.draw(new Float32Array(VOICE_BANDS));
    if (audio && audio.readyState === 'live')
      this.stopLevels = watchLevels(audio, VOICE_BANDS, (bands) => this.draw(bands));
  }

  private drawInitial(initial: string): void {
    if (this.shownInitial === initial) return;
    this.shownInitial = initial;
    this.initial.replaceChildren(initial || icon('person', 32));
  }

  private draw(bands: Float32Array): void {
    let loudest = 0;
    for (let index = 0; index < VOICE_BANDS; index++) {
      const level = bands[BAND_ORDER[index]!] ?? 0;
      loudest = Math.max(loudest, level);
      this.bars[index]!.style.setProperty('--level', level.toFixed(3));
    }
    this.element.style.setProperty('--loudness', loudest.toFixed(3));
  }
}

function initialOf(name: string): string {
  return [...name.trim()][0]?.toUpperCase() ?? '';
}
