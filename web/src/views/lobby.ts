/** Before the call: who you are, which room, and a look at yourself. */
import type { Actions } from '../actions';
import { h, setAttribute, setText } from '../dom';
import { icon, mark } from '../icons';
import { watchLevels } from '../levels';
import type { State } from '../model';
import { deviceProblem } from '../problems';
import type { Store } from '../store';
import { Control, DeviceControl } from './controls';
import { Tile } from './tile';

const METER_STEPS = 12;

export class LobbyView {
  readonly element: HTMLElement;
  private readonly tile = new Tile('person');
  private readonly microphone: DeviceControl;
  private readonly camera: DeviceControl;
  private readonly steps = Array.from({ length: METER_STEPS }, () => h('i'));
  private readonly meter = h('div', { class: 'meter', 'aria-hidden': 'true' }, ...this.steps);
  private readonly hint = h('p', { class: 'device-hint', role: 'status' });
  private readonly name: HTMLInputElement;
  private readonly room: HTMLInputElement;
  private readonly submit = h('button', { type: 'submit', class: 'button primary join' });
  private readonly cancel: HTMLButtonElement;
  private readonly alert = h('div', { class: 'alert-place', role: 'alert' });
  private shownProblem: State['problem'] = null;
  private audio: MediaStreamTrack | null = null;
  private stopMeter: (() => void) | null = null;

  constructor(
    private readonly store: Store,
    private readonly actions: Actions,
    openDevices: () => void,
  ) {
    this.microphone = new DeviceControl('microphone', actions);
    this.camera = new DeviceControl('camera', actions);
    const devices = new Control({ label: 'Devices', icon: 'devices', onclick: openDevices });
    const controls = h(
      'div',
      { class: 'preview-controls', role: 'group', 'aria-label': 'Devices' },
      this.microphone.element,
      this.camera.element,
      devices.element,
    );
    const preview = h(
      'section',
      { class: 'preview', 'aria-label': 'Preview' },
      this.tile.element,
      controls,
      this.meter,
      this.hint,
    );

    this.name = field('name', 'Ada', (name) => store.dispatch({ type: 'form', name }));
    this.room = field('room', 'playground', (room) => store.dispatch({ type: 'form', room }));
    this.cancel = h('button', { type: 'button', class: 'button quiet', onclick: () => actions.toLobby() }, 'Cancel');
    const form = h(
      'form',
      { class: 'join-form', onsubmit: (event: SubmitEvent) => this.join(event) },
      h('h1', { tabindex: -1 }, 'Ready to talk?'),
      h('p', { class: 'lead' }, 'Join a room and speak with whoever is in it, agents included.'),
      h('label', { class: 'field' }, h('span', {}, 'Your name'), this.name),
      h('label', { class: 'field' }, h('span', {}, 'Room'), this.room),
      h('div', { class: 'join-row' }, this.submit, this.cancel),
      this.alert,
    );
    this.element = h(
      'main',
      { class: 'lobby' },
      h('div', { class: 'brand' }, mark(28), h('span', {}, 'Greenroom')),
      preview,
      form,
    );
  }

  /** Called when the lobby comes into view. */
  focus(): void {
    if (this.name.value.trim()) this.submit.focus({ preventScroll: true });
    else if (matchMedia('(pointer: fine)').matches) this.name.focus({ preventScroll: true });
  }

  update(state: State): void {
    const joining = state.phase === 'joining';
    if (this.name.value !== state.name) this.name.value = state.name;
    if (this.room.value !== state.room) this.room.value = state.room;
    this.name.readOnly = this.room.readOnly = joining || state.fixed;
    setText(this.submit, joining ? 'Joining\u2026' : 'Join room');
    setAttribute(this.submit, 'aria-busy', joining ? 'true' : null);
    this.cancel.hidden = !joining;

    this.microphone.update(state.devices.microphone);
    this.camera.update(state.devices.camera);
    const me = state.people[0];
    if (me) this.tile.update({ ...me, name: state.name, speaking: false });
    this.listen(me?.audio ?? null);
    const { microphone, camera } = state.devices;
    const trouble = deviceProblem('microphone', microphone) || deviceProblem('camera', camera);
    this.hint.classList.toggle('is-trouble', trouble !== '');
    setText(this.hint, trouble || hintOf(microphone));
    this.showProblem(state);
  }

  private showProblem({ problem }: State): void {
    if (problem === this.shownProblem) return;
    this.shownProblem = problem;
    if (!problem) return this.alert.replaceChildren();
    const words = h('div', {}, h('p', { class: 'alert-title' }, problem.title), h('p', {}, problem.text));
    this.alert.replaceChildren(h('div', { class: 'alert', 'data-kind': problem.kind }, icon('warning'), words));
    this.alert.scrollIntoView({ block: 'nearest' });
  }

  private join(event: Event): void {
    event.preventDefault();
    if (this.store.state.phase !== 'lobby') return;
    for (const input of [this.name, this.room]) {
      input.value = input.value.trim();
      if (!input.reportValidity()) return;
    }
    this.store.dispatch({ type: 'form', name: this.name.value, room: this.room.value });
    this.actions.join();
  }

  private listen(audio: MediaStreamTrack | null): void {
    if (audio === this.audio) return;
    this.stopMeter?.();
    this.stopMeter = null;
    this.audio = audio;
    this.meter.classList.toggle('is-off', audio === null);
    const draw = (level: number) =>
      this.steps.forEach((step, index) => step.classList.toggle('lit', level * METER_STEPS > index + 0.5));
    draw(0);
    if (audio) this.stopMeter = watchLevels(audio, 1, (bands) => draw(Math.min(1, (bands[0] ?? 0) * 1.3)));
  }
}

function field(name: string, placeholder: string, onInput: (value: string) => void): HTMLInputElement {
  const input = h('input', {
    name,
    placeholder,
    required: true,
    maxlength: 80,
    autocomplete: name === 'name' ? 'name' : 'off',
    spellcheck: 'false',
  });
  input.addEventListener('input', () => onInput(input.value));
  return input;
}

function hintOf(microphone: State['devices']['microphone']): string {
  if (microphone === 'on') return 'Say something: the bar moves when you are heard.';
  if (microphone === 'asking') return 'Your browser asks whether this page may use the microphone.';
  return 'Your microphone is off. You can turn it on later, too.';
}
