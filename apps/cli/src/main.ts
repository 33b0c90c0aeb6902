import { completeWord } from './completion/complete.ts';
import { runCli } from './run-cli.ts';

process.exitCode = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  // Not touched before it is read: a pipe that is opened for reading may belong to somebody else.
  get stdin() {
    return process.stdin;
  },
});
// What is left of a look-up that was given up keeps nobody waiting at a prompt.
if (process.argv[2] === completeWord) process.exit();
