import { isRoot } from '@aviary/cli';
import { errorText } from '@aviary/core';
import { runLab, whyNoLab } from '@aviary/testing/lab';
import { dataDir, output, prepareMachine, rerunAsRoot, root, signal } from './test-machine.ts';

/** Longest life of the lab when a person runs it; LAB_TIMEOUT_SEC sets another. */
const timeoutMs = Number(process.env['LAB_TIMEOUT_SEC'] ?? 1_800) * 1_000;

/** Runs `.lab.test.ts` files, all or those named, with this process's arguments for Vitest. */
async function main(): Promise<number> {
  if (!isRoot()) return await rerunAsRoot('the lab');
  await prepareMachine();
  const reason = await whyNoLab(signal);
  if (reason !== undefined) throw new Error(reason);
  return await runLab({
    ...{ root, imagesFrom: dataDir, vitestArguments: process.argv.slice(2), timeoutMs, signal },
    note: (text) => output.note(text),
    onOutput: (text) => process.stdout.write(text),
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  output.note(`cannot run the lab: ${errorText(error)}`);
  process.exitCode = 1;
}
