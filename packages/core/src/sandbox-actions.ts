import { type SandboxStatus, type SandboxTransition, sandboxStatuses, sandboxTransitions } from './sandbox-status.ts';

interface SandboxAction {
  /** As in "cannot … the sandbox". */
  verb: string;
  /** The states in which it can be asked for. */
  from: readonly SandboxStatus[];
  /** The state that it leads to. */
  goal?: SandboxStatus;
}

/** An action that is a change of state: possible where its transition is. */
function command(verb: string, transition: SandboxTransition, goal: SandboxStatus): SandboxAction {
  return { verb, from: sandboxTransitions[transition].from, goal };
}

const running: readonly SandboxStatus[] = ['running'];
const withState: readonly SandboxStatus[] = ['running', 'paused'];
const notGone = sandboxStatuses.filter((status) => status !== 'stopping' && status !== 'stopped');

/** What can be asked of a sandbox, and in which states. The one table that the API's answers, clients and the dashboard's buttons read. */
export const sandboxActions = {
  pause: command('pause', 'pause_requested', 'paused'),
  resume: command('resume', 'resume_requested', 'running'),
  rewind: command('rewind', 'rewind_requested', 'running'),
  // Asked again, a delete is answered with what the first one does.
  delete: { verb: 'delete', from: sandboxStatuses, goal: 'stopped' },
  fork: { verb: 'fork', from: withState },
  snapshot: { verb: 'make a snapshot of', from: withState },
  exec: { verb: 'run a command in', from: running },
  files: { verb: 'use the files of', from: running },
  ping: { verb: 'ping', from: running },
  set_timeout: { verb: 'set the idle time of', from: notGone },
} as const satisfies Record<string, SandboxAction>;

export type SandboxActionName = keyof typeof sandboxActions;

/** What each state is to who asks in vain: what it is, and what to do about it. */
const advice = {
  pending: 'it is being started; wait until it is running',
  starting: 'it is being started; wait until it is running',
  running: 'it is running; pause it first',
  pausing: 'it is being paused; wait until it is paused, then resume it',
  paused: 'it is paused; resume it first',
  resuming: 'it is being resumed; wait until it is running',
  hibernated: 'it is hibernated; resume it first',
  stopping: 'it is being deleted; create another',
  stopped: 'it is deleted; create another',
  missing: 'its host does not answer; wait until it is back, or delete the sandbox',
  error: 'it failed; see its status_reason, and resume it from its last saved state or delete it',
} as const satisfies Record<SandboxStatus, string>;

/** Whether `action` can be asked for while the sandbox is `status`. */
export function canSandbox(action: SandboxActionName, status: SandboxStatus): boolean {
  return (sandboxActions[action].from as readonly SandboxStatus[]).includes(status);
}

/** The actions that can be asked for in `status`. */
export function sandboxActionsIn(status: SandboxStatus): SandboxActionName[] {
  return (Object.keys(sandboxActions) as SandboxActionName[]).filter((action) => canSandbox(action, status));
}

/** Why `action` cannot be asked for in `status`, and what to do next, e.g. "it is paused; resume it first"; undefined when it can. */
export function whyNotSandbox(action: SandboxActionName, status: SandboxStatus): string | undefined {
  if (canSandbox(action, status)) return undefined;
  const { goal }: SandboxAction = sandboxActions[action];
  return status === goal ? `it is ${status} already` : advice[status];
}
