import { describe, expect, test } from 'vitest';
import {
  canSandbox,
  nextSandboxStatus,
  type SandboxActionName,
  type SandboxStatus,
  type SandboxTransition,
  sandboxActions,
  sandboxActionsIn,
  sandboxStatuses,
  whyNotSandbox,
} from './index.ts';

const actions = Object.keys(sandboxActions) as SandboxActionName[];

test('each state allows what it says', () => {
  expect(Object.fromEntries(sandboxStatuses.map((status) => [status, sandboxActionsIn(status).join(' ')]))).toEqual({
    pending: 'delete set_timeout',
    starting: 'delete set_timeout',
    running: 'pause rewind delete fork snapshot exec files ping set_timeout',
    pausing: 'delete set_timeout',
    paused: 'resume rewind delete fork snapshot set_timeout',
    resuming: 'delete set_timeout',
    hibernated: 'resume delete set_timeout',
    stopping: 'delete',
    stopped: 'delete',
    missing: 'delete set_timeout',
    error: 'resume rewind delete set_timeout',
  });
});

describe('an action that changes the state is possible exactly where its transition is', () => {
  const transitions = {
    pause: 'pause_requested',
    resume: 'resume_requested',
    rewind: 'rewind_requested',
  } as const satisfies Partial<Record<SandboxActionName, SandboxTransition>>;
  test.each(Object.entries(transitions))('%s', (action, transition) => {
    for (const status of sandboxStatuses) {
      const can = canSandbox(action as SandboxActionName, status);
      expect([status, can]).toEqual([status, nextSandboxStatus(status, transition) !== undefined]);
    }
  });

  test('delete, which is also answered when it is done or under way', () => {
    const allowed = sandboxStatuses.filter((status) => nextSandboxStatus(status, 'stop_requested') !== undefined);
    expect([...allowed, 'stopped'].sort()).toEqual(
      sandboxStatuses.filter((status) => status !== 'stopping').toSorted(),
    );
  });
});

test('every action has an answer in every state: it can be done, or a sentence says why not and what next', () => {
  for (const action of actions) {
    for (const status of sandboxStatuses) {
      const why = whyNotSandbox(action, status);
      if (canSandbox(action, status)) expect(why).toBeUndefined();
      else expect(why).toMatch(/^(it|its host) (is|does|failed).*(; .+| already)$/);
    }
  }
});

test.each<[SandboxActionName, SandboxStatus, string]>([
  ['exec', 'paused', 'it is paused; resume it first'],
  ['pause', 'paused', 'it is paused already'],
  ['resume', 'running', 'it is running already'],
  ['ping', 'stopped', 'it is deleted; create another'],
  ['fork', 'missing', 'its host does not answer; wait until it is back, or delete the sandbox'],
])('%s while %s: %s', (action, status, sentence) => {
  expect(whyNotSandbox(action, status)).toBe(sentence);
});

test('advice names only actions that the state allows', () => {
  for (const status of sandboxStatuses) {
    const sentences = actions.map((action) => whyNotSandbox(action, status) ?? '').join(' ');
    if (/(; | and )resume it/.test(sentences)) expect(canSandbox('resume', status)).toBe(true);
    if (sentences.includes('; pause it')) expect(canSandbox('pause', status)).toBe(true);
  }
});
