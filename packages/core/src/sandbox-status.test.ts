import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  nextSandboxStatus,
  type SandboxStatus,
  type SandboxTransition,
  sandboxStatuses,
  sandboxStatusTraits,
  sandboxTransitions,
} from './index.ts';

const transitions = Object.keys(sandboxTransitions) as SandboxTransition[];
const waysOut = (status: SandboxStatus) =>
  transitions.flatMap((transition) => nextSandboxStatus(status, transition) ?? []);

test('a transition leads where its table says, from the states that it names alone', () => {
  for (const transition of transitions) {
    const { from, to } = sandboxTransitions[transition];
    for (const status of sandboxStatuses) {
      const isNamed = (from as readonly SandboxStatus[]).includes(status);
      expect([transition, status, nextSandboxStatus(status, transition)]).toEqual([
        transition,
        status,
        isNamed ? to : undefined,
      ]);
    }
    expect(new Set(from).size).toBe(from.length);
  }
});

test('nothing leaves `stopped`, and from anywhere else there is a way to it', () => {
  expect(waysOut('stopped')).toEqual([]);
  for (const start of sandboxStatuses) {
    const seen = new Set([start]);
    for (const status of seen) for (const next of waysOut(status)) seen.add(next);
    expect([start, seen.has('stopped')]).toEqual([start, true]);
  }
});

test('every state can be reached from `pending`, but those of a feature to come', () => {
  const seen = new Set<SandboxStatus>(['pending']);
  for (const status of seen) for (const next of waysOut(status)) seen.add(next);
  expect(sandboxStatuses.filter((status) => !seen.has(status))).toEqual(['hibernated']);
});

describe('a state in which something is under way', () => {
  test.each(sandboxStatuses.filter((status) => sandboxStatusTraits[status].transitional))(
    '%s has a deadline, a good end and a bad one',
    (status) => {
      expect(sandboxStatusTraits[status].deadlineSec).toBeGreaterThan(0);
      expect(new Set(waysOut(status)).size).toBeGreaterThan(status === 'stopping' ? 0 : 1);
    },
  );

  test.each(sandboxStatuses.filter((status) => !sandboxStatusTraits[status].transitional))(
    '%s is none, and may last',
    (status) => expect(sandboxStatusTraits[status].deadlineSec).toBe(0),
  );
});

test('a sandbox that runs or is about to holds its place on the host', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...transitions), { maxLength: 60 }), (path) => {
      let status: SandboxStatus = 'pending';
      for (const transition of path) {
        const next = nextSandboxStatus(status, transition);
        if (next === undefined) continue;
        // Whatever is written as running was reserved in the state before, or was found to run by its host.
        const isFound = transition === 'recovered' || transition === 'found_running';
        if (next === 'running' && !isFound) expect(sandboxStatusTraits[status].reservesCompute).toBe(true);
        status = next;
      }
    }),
    { numRuns: 1_000 },
  );
});
