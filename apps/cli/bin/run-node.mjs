// Plain JavaScript for any Node from 20 on, without dependencies: it runs before anything is installed.
import { spawn } from 'node:child_process';
import { isatty } from 'node:tty';

/** Runs `node` with `args` in place of this program: its streams, signals and exit code are that one's. */
export function runNode(node, args, env = process.env) {
  const child = spawn(node, args, { stdio: 'inherit', env });
  // Ctrl-C reaches everybody on a terminal, and the child counts how often it comes. Whatever else is sent arrives here alone.
  const hasTerminal = [0, 1, 2].some((stream) => isatty(stream));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !hasTerminal) child.kill(signal);
    });
  child.on('error', (error) => {
    console.error(`cannot start ${node}: ${error.message}; remove node_modules and run 'npm install' again`);
    process.exitCode = 1;
  });
  child.on('close', (code, signal) => {
    process.exitCode = code ?? (signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 1);
  });
}
