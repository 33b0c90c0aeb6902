/**
 * The sandbox's states, and every way from one to another. The one table that SQL, API, dashboard and tests read.
 *
 *   pending → starting → running ⇄ pausing → paused → resuming → running
 *   any but stopped → stopping → stopped;  a lost host → missing;  a lost microVM → error
 */
export const sandboxStatuses = [
  'pending',
  'starting',
  'running',
  'pausing',
  'paused',
  'resuming',
  'hibernated',
  'stopping',
  'stopped',
  'missing',
  'error',
] as const;

export type SandboxStatus = (typeof sandboxStatuses)[number];

/** What can happen to a sandbox: the states in which it may, and the state after it. Anything else is a lost race or a mistake. */
export const sandboxTransitions = {
  start_requested: { from: ['pending'], to: 'starting' },
  start_succeeded: { from: ['pending', 'starting'], to: 'running' },
  start_failed: { from: ['pending', 'starting'], to: 'error' },
  pause_requested: { from: ['running'], to: 'pausing' },
  pause_succeeded: { from: ['pausing'], to: 'paused' },
  pause_failed: { from: ['pausing'], to: 'running' },
  auto_paused: { from: ['running', 'pausing', 'missing'], to: 'paused' },
  // From `error` too: a sandbox whose microVM is gone may still have a generation to come back from.
  resume_requested: { from: ['paused', 'hibernated', 'error'], to: 'resuming' },
  resume_succeeded: { from: ['resuming'], to: 'running' },
  resume_failed: { from: ['resuming'], to: 'paused' },
  rewind_requested: { from: ['running', 'paused', 'error'], to: 'resuming' },
  resume_lost: { from: ['resuming'], to: 'error' },
  stop_requested: {
    from: ['pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'hibernated', 'missing', 'error'],
    to: 'stopping',
  },
  stop_succeeded: { from: ['stopping'], to: 'stopped' },
  vm_lost: { from: ['running', 'pausing', 'missing'], to: 'error' },
  // Its host has found what keeps it from working, or that this is over.
  reason_changed: { from: ['running'], to: 'running' },
  recovered: { from: ['running', 'missing', 'error'], to: 'running' },
  host_lost: { from: ['pending', 'starting', 'running', 'pausing', 'resuming'], to: 'missing' },
  found_running: { from: ['missing'], to: 'running' },
  found_paused: { from: ['missing', 'error'], to: 'paused' },
  found_absent: { from: ['running', 'missing', 'paused'], to: 'error' },
} as const satisfies Record<string, { from: readonly SandboxStatus[]; to: SandboxStatus }>;

export type SandboxTransition = keyof typeof sandboxTransitions;

/** The state after `transition`, or undefined when it is not legal from `status`. */
export function nextSandboxStatus(status: SandboxStatus, transition: SandboxTransition): SandboxStatus | undefined {
  const { from, to } = sandboxTransitions[transition];
  return (from as readonly SandboxStatus[]).includes(status) ? to : undefined;
}

export interface StatusTraits {
  /** Something is under way: it ends by itself or by its deadline. */
  transitional: boolean;
  /** Seconds a transitional state may last before the reconciler settles it; 0 where it may last for ever. */
  deadlineSec: number;
  /** Counts against quotas and the host's capacity. */
  reservesCompute: boolean;
}

/** What each status means to the rest of the product. */
export const sandboxStatusTraits = {
  pending: { transitional: true, deadlineSec: 60, reservesCompute: true },
  starting: { transitional: true, deadlineSec: 600, reservesCompute: true },
  running: { transitional: false, deadlineSec: 0, reservesCompute: true },
  pausing: { transitional: true, deadlineSec: 600, reservesCompute: true },
  paused: { transitional: false, deadlineSec: 0, reservesCompute: false },
  resuming: { transitional: true, deadlineSec: 600, reservesCompute: true },
  hibernated: { transitional: false, deadlineSec: 0, reservesCompute: false },
  stopping: { transitional: true, deadlineSec: 300, reservesCompute: true },
  stopped: { transitional: false, deadlineSec: 0, reservesCompute: false },
  missing: { transitional: false, deadlineSec: 0, reservesCompute: true },
  error: { transitional: false, deadlineSec: 0, reservesCompute: false },
} as const satisfies Record<SandboxStatus, StatusTraits>;
