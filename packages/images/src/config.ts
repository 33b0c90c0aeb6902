import { EnvReader } from '@aviary/service-kit';

export interface ImagesConfig {
  /** Where images are built to: `AVIARY_DATA_DIR`, default /var/lib/aviary. */
  dataDir: string;
}

export function loadConfig(env: Readonly<Record<string, string | undefined>>): ImagesConfig {
  return { dataDir: new EnvReader(env).string('AVIARY_DATA_DIR', '/var/lib/aviary') };
}
