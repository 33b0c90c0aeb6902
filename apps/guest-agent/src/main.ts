import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from './config.ts';
import { raiseDeveloperLimits } from './lifecycle/developer-limits.ts';
import { protectAgent } from './lifecycle/protect-agent.ts';
import { startGuestAgent } from './start.ts';

const config = loadConfig(process.env, readFileSync('/proc/cmdline', 'utf8'));
const { cgroupRoot } = config;
const hasCgroup = cgroupRoot !== undefined && existsSync(join(cgroupRoot, 'cgroup.procs'));
if (hasCgroup) for (const failure of protectAgent(cgroupRoot)) console.error(`not protected: ${failure}`);
const agent = await startGuestAgent({ ...config, cgroupRoot: hasCgroup ? cgroupRoot : undefined });
for (const failure of raiseDeveloperLimits()) console.error(`limit not raised: ${failure}`);
console.log('aviary-agent ready');

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    agent[Symbol.asyncDispose]().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
}
