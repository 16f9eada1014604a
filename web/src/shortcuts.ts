/** Single keys during the call. They rest while something is being typed, and with any modifier held. */

export type Shortcuts = Readonly<Record<string, () => void>>;

export function listenForShortcuts(target: Document, active: () => Shortcuts): void {
  target.addEventListener('keydown', (event) => {
    if (
      event.defaultPrevented ||
      event.repeat ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      isTyping(event.target)
    )
      return;
    if (target.querySelector('dialog[open]')) return;
    const run = active()[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run) return;
    event.preventDefault();
    run();
  });
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
  );
}
