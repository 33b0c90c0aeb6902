import { exitAtStart } from '@aviary/service-kit';
import { loadConfig, runControlPlane } from './start.ts';

try {
  await runControlPlane({ config: loadConfig(process.env) });
} catch (error) {
  exitAtStart('control-plane', error);
}
