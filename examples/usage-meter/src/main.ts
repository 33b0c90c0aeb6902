import { loadConfig, runControlPlane } from '@aviary/control-plane';
import { usageMeter } from './usage-meter.ts';

await runControlPlane({ config: loadConfig(process.env), extensions: [usageMeter()] });
