import { nextSandboxStatus, type SandboxStatus, sandboxStatuses, sandboxStatusTraits } from '@aviary/core';
import { expect, test } from 'vitest';
import { type AgentView, decideReconcile } from './reconcile-decision.ts';

const views: AgentView[] = ['running', 'paused', 'error', 'busy', 'absent'];
const longAgo = 1_000_000;

test('every decision follows the transition table and ends where the host is', () => {
  for (const status of sandboxStatuses) {
    for (const agent of views) {
      const decision = decideReconcile({ status, agent, ageSec: longAgo, hasStarted: true });
      if (decision.do !== 'apply') continue;
      let current: SandboxStatus | undefined = status;
      for (const transition of decision.transitions) current = current && nextSandboxStatus(current, transition);
      expect({ status, agent, isLegal: current !== undefined }).toEqual({ status, agent, isLegal: true });
      const settled = current ?? status;
      expect(sandboxStatusTraits[settled].transitional).toBe(false);
      if (agent === 'running' && status !== 'starting' && status !== 'pending') expect(settled).toBe('running');
      if (agent === 'absent') expect(['error', 'stopped']).toContain(settled);
    }
  }
});

test('what is under way is left to its operation until its deadline', () => {
  for (const status of sandboxStatuses.filter((name) => sandboxStatusTraits[name].transitional)) {
    for (const agent of views) {
      expect(decideReconcile({ status, agent, ageSec: 1, hasStarted: false })).toEqual({ do: 'nothing' });
    }
  }
});

test('a microVM that nobody should have is destroyed; one that is wanted never is', () => {
  const isDestroyed = (status: SandboxStatus | undefined) =>
    decideReconcile({ status, agent: 'running', ageSec: longAgo, hasStarted: true }).do === 'destroy';
  expect(isDestroyed(undefined)).toBe(true);
  expect(sandboxStatuses.filter(isDestroyed)).toEqual(['stopping', 'stopped']);
  expect(decideReconcile({ status: 'error', agent: 'running', ageSec: 0, hasStarted: false })).toEqual({
    do: 'destroy',
  });
});
