import { expect, it } from 'vitest';
import { collectPhases, phase } from './phases.ts';

const names = (phases: readonly { name: string }[]) => phases.map(({ name }) => name);

it('tells the phases of one command, and none of what is within them, behind it, or beside it', async () => {
  const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
  const command = async (kind: string) => {
    await phase(`${kind}.slot`, async () => phase('within', async () => undefined));
    await expect(phase(`${kind}.fails`, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    void phase('behind', () => later);
    return kind;
  };
  const [one, two] = await Promise.all([collectPhases(() => command('a')), collectPhases(() => command('b'))]);
  goOn();
  await later;
  expect([one.result, names(one.phases), names(two.phases)]).toEqual([
    'a',
    ['a.slot', 'a.fails'],
    ['b.slot', 'b.fails'],
  ]);
  expect(one.phases.every(({ ms }) => ms >= 0)).toBe(true);
  expect(await phase('of no command', async () => 1)).toBe(1);
});
