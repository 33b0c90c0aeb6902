import { loadConfig, runControlPlane } from './start.ts';

await runControlPlane({ config: loadConfig(process.env) });
