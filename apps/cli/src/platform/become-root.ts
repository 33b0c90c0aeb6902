import { spawn, spawnSync } from 'node:child_process';
import { AppError } from '@aviary/core';

export interface RootRequest {
  /** What root is needed for, e.g. "'aviary up'". */
  what: string;
  env: Readonly<Record<string, string | undefined>>;
  note: (text: string) => void;
  /** Aborting ends the program that runs as root. */
  signal: AbortSignal;
}

/** Variables that sudo would drop and that change what the program does. */
function keptVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const others = ['NO_COLOR', 'CI', 'http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];
  return Object.keys(env).filter((name) => name.startsWith('AVIARY_') || others.includes(name));
}

/** True when this process may do what the host agent needs. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * Runs this program again through sudo and resolves with its exit code. Throws `forbidden` that says what is missing
 * when sudo is not installed or does not let this user in.
 */
export async function runAsRoot({ what, env, note, signal }: RootRequest): Promise<number> {
  const reason = `${what} needs root: microVMs get network namespaces, cgroups and users of their own`;
  note(`${reason}; asking sudo …`);
  // Without a terminal a password can not be typed: fail instead of hanging on the question.
  const isTerminal = process.stdin.isTTY === true;
  const flags = isTerminal ? [] : ['-n'];
  const trial = spawnSync('sudo', [...flags, 'true'], { stdio: 'inherit' });
  if (trial.error) throw new AppError('forbidden', `${reason}; sudo is not installed: run it as root`);
  if (trial.status !== 0) {
    const why = isTerminal ? 'sudo refused' : 'sudo wants a password and there is no terminal to type it on';
    throw new AppError('forbidden', `${reason}; ${why}: run it as root, or let this user use sudo`);
  }
  const kept = keptVariables(env);
  const preserve = kept.length > 0 ? [`--preserve-env=${kept.join(',')}`] : [];
  const child = spawn('sudo', [...flags, ...preserve, process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
  });
  const forward = () => child.kill('SIGTERM');
  signal.addEventListener('abort', forward, { once: true });
  return await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}
