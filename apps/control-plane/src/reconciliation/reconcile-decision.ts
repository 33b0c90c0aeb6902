import { type SandboxStatus, type SandboxTransition, sandboxStatusTraits, unreachable } from '@aviary/core';
import { SandboxState } from '@aviary/proto/hostagent';

/** What a host says of one sandbox; `absent` when it does not list it. */
export type AgentView = 'running' | 'paused' | 'error' | 'busy' | 'absent';

/** What to do about one sandbox; several transitions are applied in order, in one transaction. */
export type ReconcileDecision =
  | { do: 'nothing' }
  | { do: 'apply'; transitions: SandboxTransition[] }
  | { do: 'destroy' };

export function agentView(state: SandboxState | undefined): AgentView {
  switch (state) {
    case undefined:
      return 'absent';
    case SandboxState.RUNNING:
      return 'running';
    case SandboxState.PAUSED:
      return 'paused';
    case SandboxState.ERROR:
      return 'error';
    default:
      return 'busy';
  }
}

const nothing: ReconcileDecision = { do: 'nothing' };
const destroy: ReconcileDecision = { do: 'destroy' };
const apply = (...transitions: SandboxTransition[]): ReconcileDecision => ({ do: 'apply', transitions });

/**
 * How to bring a stored status and what the host says together; undefined status means the database does not know the
 * sandbox. A transitional status is left to its operation until its deadline.
 */
export function decideReconcile(sandbox: {
  status: SandboxStatus | undefined;
  agent: AgentView;
  ageSec: number;
  hasStarted: boolean;
}): ReconcileDecision {
  const { status, agent, ageSec, hasStarted } = sandbox;
  if (status === undefined) return agent === 'absent' ? nothing : destroy;
  const { transitional, deadlineSec } = sandboxStatusTraits[status];
  if (agent === 'busy' || (transitional && ageSec < deadlineSec)) return nothing;
  switch (status) {
    case 'pending':
    case 'starting':
      return agent === 'running' ? apply('start_succeeded') : apply('start_failed');
    case 'running':
      return { running: nothing, paused: apply('auto_paused'), error: apply('vm_lost'), absent: apply('found_absent') }[
        agent
      ];
    case 'pausing':
      return {
        running: apply('pause_failed'),
        paused: apply('pause_succeeded'),
        error: apply('vm_lost'),
        absent: apply('vm_lost'),
      }[agent];
    case 'paused':
      // A resume whose answer was lost: the microVM runs, so the row follows.
      return {
        running: apply('resume_requested', 'resume_succeeded'),
        paused: nothing,
        error: nothing,
        absent: apply('found_absent'),
      }[agent];
    case 'resuming':
      return {
        running: apply('resume_succeeded'),
        paused: apply('resume_failed'),
        error: apply('resume_lost'),
        absent: apply('resume_lost'),
      }[agent];
    case 'hibernated':
      return nothing;
    case 'stopping':
      return agent === 'absent' ? apply('stop_succeeded') : destroy;
    case 'stopped':
      return agent === 'absent' ? nothing : destroy;
    case 'missing':
      return {
        running: apply('found_running'),
        paused: apply('found_paused'),
        error: apply('found_absent'),
        absent: apply('found_absent'),
      }[agent];
    case 'error':
      // One that never ran was answered as failed: nobody waits for it.
      if (agent === 'running') return hasStarted ? apply('recovered') : destroy;
      return agent === 'paused' && hasStarted ? apply('found_paused') : nothing;
    default:
      return unreachable(status);
  }
}

/** The stored reason of a change that the reconciler made. */
export const reconcileReasons: Partial<Record<SandboxTransition, string>> = {
  start_failed: 'the host has no such microVM; the start was lost',
  auto_paused: 'paused by the host after it was idle',
  vm_lost: 'the microVM is gone from its host',
  found_absent: 'the host no longer has this sandbox',
  resume_failed: 'the resume was lost; resume it again',
  resume_lost: 'the microVM was lost while it was resumed',
  pause_failed: 'the pause was lost; the sandbox runs on',
};
