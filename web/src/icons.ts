/** Line icons drawn for this page on a 24-unit grid. Decorative: the control's label says what it does. */

const PATHS = {
  microphone: '<rect x="9" y="3" width="6" height="11" rx="3"/><path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3"/>',
  microphoneOff:
    '<path d="M15 9.5V6a3 3 0 0 0-5.8-1M9 9v2a3 3 0 0 0 4.6 2.5M5.5 11.5a6.5 6.5 0 0 0 10.4 5.2M18.5 11.5c0 .9-.2 1.7-.5 2.5M12 18v3M4 4l16 16"/>',
  camera: '<rect x="3" y="6" width="12.5" height="12" rx="3"/><path d="m15.5 10.5 5.5-3v9l-5.5-3"/>',
  cameraOff:
    '<path d="M9.5 6h3a3 3 0 0 1 3 3v1.5l5.5-3v9l-1.5-.8M15.3 16A3 3 0 0 1 12.5 18H6a3 3 0 0 1-3-3V9a3 3 0 0 1 2-2.8M4 4l16 16"/>',
  captions: '<rect x="3" y="5" width="18" height="14" rx="3"/><path d="M7 12h4M14 12h3M7 15.5h2M12 15.5h5"/>',
  conversation: '<path d="M20 11.5a7.5 7.5 0 0 1-11 6.6L4 20l1.7-4.6A7.5 7.5 0 1 1 20 11.5Z"/>',
  devices: '<path d="M4 7h9M17 7h3M4 17h3M11 17h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>',
  leave: '<path d="M10 4H7a3 3 0 0 0-3 3v10a3 3 0 0 0 3 3h3M15 8l4 4-4 4M19 12H10"/>',
  person: '<circle cx="12" cy="8.5" r="3.75"/><path d="M4.5 20a7.5 7.5 0 0 1 15 0"/>',
  link: '<path d="M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1"/>',
  check: '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
  close: '<path d="m6 6 12 12M18 6 6 18"/>',
  send: '<path d="M12 19V5M6 11l6-6 6 6"/>',
  down: '<path d="M12 5v14M6 13l6 6 6-6"/>',
  warning: '<path d="M12 8.5v4.5M12 16.5v.1"/><circle cx="12" cy="12" r="9"/>',
  speaker: '<path d="M4 9.5v5h3.5L12 18V6L7.5 9.5ZM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11"/>',
  signal: '<path d="M5 18v-3M10 18v-6M15 18V9M20 18V6"/>',
} as const;

export type IconName = keyof typeof PATHS;

export function icon(name: IconName, size = 20): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  for (const [key, value] of Object.entries({
    viewBox: '0 0 24 24',
    width: size,
    height: size,
    fill: 'none',
    stroke: 'currentColor',
    'stroke-width': 1.75,
    'stroke-linecap': 'round',
    'stroke-linejoin': 'round',
    'aria-hidden': 'true',
    focusable: 'false',
  }))
    svg.setAttribute(key, String(value));
  svg.innerHTML = PATHS[name];
  return svg;
}

/** The product's mark: a door left ajar, light behind it. */
export function mark(size = 24): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 24 24', width: size, height: size, 'aria-hidden': 'true' }))
    svg.setAttribute(key, String(value));
  svg.innerHTML =
    '<rect width="24" height="24" rx="7" fill="var(--accent)"/>' +
    '<path d="M7 18.5V6.5A1.5 1.5 0 0 1 8.5 5h7A1.5 1.5 0 0 1 17 6.5v12" fill="none" stroke="var(--on-accent)" stroke-width="1.6" stroke-linecap="round"/>' +
    '<path d="M7 18.5 13 20V8.2L7 5.8Z" fill="var(--on-accent)"/>';
  return svg;
}
