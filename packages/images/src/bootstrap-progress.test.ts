import { expect, test } from 'vitest';
import { BootstrapProgress, type BootstrapState } from './bootstrap-progress.ts';

function follow(output: string, pieceBytes = output.length) {
  const states: BootstrapState[] = [];
  const progress = new BootstrapProgress((state) => states.push(state));
  for (let at = 0; at < output.length; at += pieceBytes) progress.read(output.slice(at, at + pieceBytes));
  return states;
}

const installing = (count: number) =>
  Array.from({ length: count }, (_, index) => `Unpacking p${index} (1) ...\nSetting up p${index} (1) ...\n`).join('');
const mmdebstrap = `I: finding correct signed-by value...
I: running apt-get update...
I: downloading packages with apt...
0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.
I: extracting archives...
I: installing essential packages...
${installing(69)}I: installing remaining packages inside the chroot...
0 upgraded, 50 newly installed, 0 to remove and 0 not upgraded.
${installing(50)}I: cleaning package lists and apt cache...
I: success in 92.1754 seconds
`;

test('a bootstrap is told in own words, and its progress grows evenly through the longest phase', () => {
  const states = follow(mmdebstrap);
  expect([...new Set(states.map(({ detail }) => detail))]).toEqual([
    ...['reading package lists', 'downloading packages', 'unpacking the base system'],
    ...['installing the base system', 'installing packages', 'cleaning up'],
  ]);
  const done = states.map((state) => state.done);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  expect(Math.max(...done.slice(1).map((value, index) => value - (done[index] ?? 0)))).toBeLessThan(0.1);
  expect(done.at(-1)).toBe(0.98);
});

test('lines may come in any pieces', () => {
  expect(follow(mmdebstrap, 7)).toEqual(follow(mmdebstrap));
});

test('debootstrap, which announces no count, still names its phases', () => {
  const states = follow(`I: Target architecture can be executed
I: Retrieving InRelease
I: Retrieving adduser 3.134
I: Extracting base-files...
I: Installing core packages...
I: Configuring libc6:amd64...
I: Unpacking the base system...
I: Configuring sudo...
I: Base system installed successfully.
`);
  expect(states.map(({ detail }) => detail)).toEqual([
    ...['reading package lists', 'downloading packages', 'unpacking the base system'],
    ...['installing the base system', 'installing packages', 'cleaning up'],
  ]);
});
