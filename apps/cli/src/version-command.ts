import { readFileSync } from 'node:fs';
import type { Command } from './command.ts';

/** `aviary version`. */
export const versionCommand: Command = {
  name: 'version',
  summary: 'Show the version',
  examples: ['aviary version --json'],
  async run({ output }) {
    const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    output.result({ version: manifest.version, node: process.version }, () => `aviary ${manifest.version}`);
  },
};
