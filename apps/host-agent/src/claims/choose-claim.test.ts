import { expect, test } from 'vitest';
import { type ChooseClaimInput, type Claim, chooseClaim, type OtherClaim } from './choose-claim.ts';

const claim = (prefix: string, firstSlot: number, maxSlots = 1_024): Claim => ({ prefix, firstSlot, maxSlots });
const other = (prefix: string, firstSlot: number, rest: Partial<OtherClaim> = {}): OtherClaim => ({
  ...claim(prefix, firstSlot),
  dataDir: `/data/${prefix}`,
  pid: 7,
  ...rest,
});

function choose(
  input: Partial<Omit<ChooseClaimInput, 'survey'>> & { inhabited?: string[]; routes?: [number, string][] },
) {
  const { inhabited = [], routes = [], ...rest } = input;
  const survey = {
    inhabitedPrefixes: new Set(inhabited),
    slotsByPrefix: new Map(inhabited.map((prefix) => [prefix, new Set([1])])),
    routes: new Map(routes),
  };
  return chooseClaim({ dataDir: '/data/mine', wanted: {}, kept: undefined, others: [], survey, ...rest });
}

test('two data directories get names and slots of their own, without a setting', () => {
  const { claim: first } = choose({ dataDir: '/data/a' });
  const { claim: second } = choose({ dataDir: '/data/b', others: [{ ...first, dataDir: '/data/a', pid: 7 }] });
  expect(first).toMatchObject({ firstSlot: 1, maxSlots: 1_024 });
  expect(second).toMatchObject({ firstSlot: 1_025, maxSlots: 1_024 });
  expect(first.prefix).toMatch(/^av[0-9a-f]{5}$/);
  expect(second.prefix).not.toBe(first.prefix);
});

test('a data directory gets the same again', () => {
  const kept = claim('avbef12', 2_049);
  expect(choose({ kept, others: [other('x', 1)] }).claim).toEqual(kept);
});

test('what another has is not taken, and what was kept gives way when nothing of it runs', () => {
  const { claim: first } = choose({});
  const others = [other(first.prefix, 1), other('x', 1_025, { pid: undefined })];
  const { claim: second } = choose({ kept: first, others });
  expect(second.prefix).not.toBe(first.prefix);
  expect(second.firstSlot).toBe(2_049);
});

test('links that nobody claims are gone around, its own are not', () => {
  const routes: [number, string][] = [
    [3, 'avy-3'],
    [900, 'avbef12-900'],
  ];
  expect(choose({ routes }).claim.firstSlot).toBe(901);
  expect(choose({ routes, kept: claim('avbef12', 4) }).claim.firstSlot).toBe(4);
});

test.each([
  ['a prefix', { prefix: 'x' }, "the network prefix 'x' belong to the host agent of /data/x (process 7)"],
  [
    'a first slot',
    { firstSlot: 900 },
    'of the network slots 900 to 1923 some belong to the host agent of /data/x (process 7)',
  ],
])('%s that another has is refused by name', (_what, wanted, message) => {
  expect(() => choose({ wanted, others: [other('x', 1_025)] })).toThrow(
    expect.objectContaining({ code: 'conflict', message: expect.stringContaining(message) }),
  );
});

test('settings decide where nothing is in the way', () => {
  const wanted = { prefix: 'mine', firstSlot: 64, maxSlots: 64 };
  expect(choose({ wanted, kept: claim('avbef12', 1), others: [other('x', 128)] })).toEqual({
    claim: wanted,
    ignored: [],
  });
});

test('while microVMs run their names and slots stay, and the settings left aside are named', () => {
  const kept = claim('avbef12', 1);
  const chosen = choose({ kept, wanted: { prefix: 'new', firstSlot: 1, maxSlots: 64 }, inhabited: ['avbef12'] });
  expect(chosen).toEqual({
    claim: kept,
    ignored: ['AVIARY_NETWORK_PREFIX=new (avbef12 stays in force)', 'AVIARY_MAX_SLOTS=64 (1024 stays in force)'],
  });
});

test('a machine without a free range says who has them', () => {
  const others = Array.from({ length: 32 }, (_, at) => other(`p${at}`, 1 + 1_024 * at));
  expect(() => choose({ others })).toThrow(
    expect.objectContaining({ code: 'no_capacity', message: expect.stringContaining('/data/p31') }),
  );
});
