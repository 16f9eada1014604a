/** The chat's field. Enter sends, Shift+Enter breaks the line, Escape goes back to the call. */
import type { Actions } from '../actions';
import { h } from '../dom';
import { icon } from '../icons';

const MAX_LENGTH = 4_000;

export class ComposerView {
  readonly element: HTMLFormElement;
  private readonly field = h('textarea', {
    rows: 1,
    maxlength: MAX_LENGTH,
    placeholder: 'Write a message',
    'aria-label': 'Message',
    enterkeyhint: 'send',
    autocomplete: 'off',
  });
  private readonly send = h(
    'button',
    { type: 'submit', class: 'icon-button send', 'aria-label': 'Send', disabled: true },
    icon('send'),
  );
  private busy = false;

  constructor(
    private readonly actions: Actions,
    onEscape: () => void,
  ) {
    this.element = h(
      'form',
      { class: 'composer', onsubmit: (event: SubmitEvent) => this.submit(event) },
      this.field,
      this.send,
    );
    this.field.addEventListener('input', () => this.fit());
    this.field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter' && !event.shiftKey) this.submit(event);
      else if (event.key === 'Escape') {
        event.stopPropagation();
        onEscape();
      }
    });
  }

  focus(): void {
    this.field.focus();
  }

  private fit(): void {
    this.send.disabled = this.busy || !this.field.value.trim();
    this.field.style.height = 'auto';
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  private submit(event: Event): void {
    event.preventDefault();
    const text = this.field.value.trim();
    if (!text || this.busy) return;
    this.busy = true;
    this.field.value = '';
    this.fit();
    this.actions
      .sendChat(text)
      .catch(() => void (this.field.value ||= text))
      .finally(() => {
        this.busy = false;
        this.fit();
      });
  }
}
