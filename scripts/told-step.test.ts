import { expect, test } from 'vitest';
import type { Outcome } from './person.ts';
import { act } from './told-step.ts';

/** Somebody to whom every command answers the same. */
function tour(outcome: Partial<Outcome>) {
  const lines: string[] = [];
  const person = { name: 'ada', run: async () => ({ code: 0, stdout: '', stderr: '', ...outcome }) };
  return { lines, at: { person, tell: (line: string) => lines.push(line) } };
}

test('a command is shown as it is typed, with what came back', async () => {
  const { lines, at } = tour({ stdout: 'made\n', stderr: 'look\n', code: 3 });
  const key = { text: 'avy_1', is: 'avy_…' };
  const stdin = { text: 'secret', is: 'password' };
  await act(at, ['team', 'create', "ada's team"], { code: 3, says: ['made', 'look'], key, stdin });
  expect(lines).toEqual([
    `ada$ AVIARY_API_KEY=avy_… aviary team create 'ada'\\''s team' < password`,
    '    made',
    '    look',
    '    (exit code 3)',
  ]);
});

test.each([
  [{ code: 1 }, {}, 'ended with 1 instead of 0'],
  [{ code: 0 }, { code: 3 }, 'ended with 0 instead of 3'],
  [{ stdout: 'another' }, { says: ['this'] }, 'did not say "this"'],
  [{ stderr: 'of others' }, { hides: ['of others'] }, 'showed "of others"'],
])('what is not as promised ends the tour: %j', async (outcome, promised, why) => {
  await expect(act(tour(outcome).at, ['whoami'], promised)).rejects.toThrow(
    `not as promised: 'ada$ aviary whoami' ${why}`,
  );
});
