/** What the next visit starts with: name, choices, devices. Kept in this browser only. */

export interface Memory {
  name: string;
  microphone: boolean;
  camera: boolean;
  chosen: Partial<Record<MediaDeviceKind, string>>;
}

const KEY = 'greenroom.playground';
const DEFAULTS: Memory = { name: '', microphone: true, camera: false, chosen: {} };

export function recall(): Memory {
  try {
    const raw: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    const { name, microphone, camera, chosen } = (
      typeof raw === 'object' && raw !== null ? raw : {}
    ) as Partial<Memory>;
    return {
      name: typeof name === 'string' ? name : DEFAULTS.name,
      microphone: typeof microphone === 'boolean' ? microphone : DEFAULTS.microphone,
      camera: typeof camera === 'boolean' ? camera : DEFAULTS.camera,
      chosen: typeof chosen === 'object' && chosen !== null ? { ...chosen } : {},
    };
  } catch {
    return { ...DEFAULTS, chosen: {} }; // storage is blocked or holds something else
  }
}

export function remember(memory: Memory): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(memory));
  } catch {
    // Private windows may refuse storage: the page works without it.
  }
}
