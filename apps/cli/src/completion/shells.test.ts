import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeApiKey } from '../fake-api.ts';
import { TestCli } from '../test-cli.ts';
import { marks, TestTerminal } from './test-terminal.ts';

const main = path.join(import.meta.dirname, '../main.ts');
const onPath = (process.env['PATH'] ?? '').split(':');
const isThere = (program: string): boolean => onPath.some((dir) => existsSync(path.join(dir, program)));

let cli: TestCli;
let env: Record<string, string>;
let id: string;
beforeAll(async () => {
  cli = await TestCli.open();
  id = cli.api.addSandbox({ metadata: { name: "it's $(touch pwned) `here`" } }).id;
  const bin = path.join(cli.directory, 'bin');
  await mkdir(bin);
  const program = path.join(bin, 'aviary');
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
  await chmod(program, 0o755);
  await writeFile(path.join(cli.directory, 'a file.txt'), '');
  env = {
    PATH: [bin, ...onPath].join(':'),
    HOME: cli.directory,
    AVIARY_API_URL: cli.api.url,
    AVIARY_API_KEY: fakeApiKey,
    AVIARY_DATA_DIR: cli.directory,
  };
});
afterAll(() => cli[Symbol.asyncDispose]());

/** Whether a shell's tests run; said once where they do not. */
function canRun(shell: string): boolean {
  const missing = [shell, 'script'].filter((program) => !isThere(program));
  if (missing.length > 0) console.warn(`skipped: completion in ${shell} needs ${missing.join(' and ')} on the path`);
  return missing.length === 0;
}

/** What every shell makes of what is typed up to a TAB. */
const lines: readonly { typed: string; becomes: string }[] = [
  { typed: 'aviary sandb\t', becomes: 'aviary sandbox ' },
  { typed: 'aviary sandbox fo\t', becomes: 'aviary sandbox fork ' },
  { typed: 'aviary ls --stat\t', becomes: 'aviary ls --status ' },
  { typed: 'aviary ls --status runn\t', becomes: 'aviary ls --status running ' },
  { typed: 'aviary ls --status=runn\t', becomes: 'aviary ls --status=running ' },
  { typed: 'aviary "sandbox" \'pau\t', becomes: 'aviary "sandbox" \'pause\' ' },
  { typed: 'aviary exec sb-1 -- sandb\t', becomes: 'aviary exec sb-1 -- sandb' },
  { typed: 'aviary files put sb-1 a\\ f\t', becomes: 'aviary files put sb-1 a\\ file.txt ' },
];

/** For names that the API gives: a busy machine may miss the second that it has. */
async function expectNamed(shell: TestTerminal, typed: string, becomes: string): Promise<void> {
  await expect.poll(() => shell.lineAfter(typed), { timeout: 60_000 }).toBe(becomes);
}

describe.runIf(canRun('bash'))('bash', () => {
  it('completes by the printed script, on a terminal', async () => {
    await using bash = new TestTerminal('bash --norc --noprofile', env);
    await bash.run(`cd '${cli.directory}'`);
    await bash.run('source <(aviary completion bash)');
    await bash.run(`bind -x '"\\C-o": printf "%s" "${marks.start}$READLINE_LINE${marks.end}"'`);
    for (const { typed, becomes } of lines) expect(await bash.lineAfter(typed)).toBe(becomes);
    expect(await bash.lineAfter('echo x | FOO=1 aviary pau\t')).toBe('echo x | FOO=1 aviary pause ');
    expect(await bash.lineAfter('aviary audit --action=sandbox.cre\t')).toBe('aviary audit --action=sandbox.create ');
    expect(await bash.lineAfter('aviary run 2>/dev/null --tem\t')).toBe('aviary run 2>/dev/null --template ');
    expect(await bash.lineAfter('aviary team accept < a\\ f\t')).toBe('aviary team accept < a\\ file.txt ');
    // Cursor in the middle of the line.
    expect(await bash.lineAfter('aviary sandb x\u0002\u0002\t')).toBe('aviary sandbox x');
    // Others give the names; none of them is run.
    const named = (typed: string, becomes: string) => expectNamed(bash, typed, becomes);
    await named('aviary rm it\t', "aviary rm it\\'s\\ \\$\\(touch\\ pwned\\)\\ \\`here\\` ");
    await named('aviary rm "it\t', 'aviary rm "it\'s \\$(touch pwned) \\`here\\`" ');
    await named("aviary rm 'it\t", "aviary rm 'it'\\''s $(touch pwned) `here`' ");
    await named('aviary rm it\\\'s "$(touch pwned)" sb\t', `aviary rm it\\'s "$(touch pwned)" ${id} `);
    expect(existsSync(path.join(cli.directory, 'pwned'))).toBe(false);
  }, 180_000);
});

describe.runIf(canRun('zsh'))('zsh', () => {
  it('completes by the printed script, on a terminal', async () => {
    const settings = [
      `PS1='${marks.prompt}'`,
      `cd '${cli.directory}'`,
      'autoload -Uz compinit; compinit -u -D',
      'source <(aviary completion zsh)',
      `show() { print -rn -- "${marks.start}$BUFFER${marks.end}" }; zle -N show; bindkey '^O' show`,
    ];
    await writeFile(path.join(cli.directory, '.zshrc'), settings.join('\n'));
    await using zsh = new TestTerminal('zsh -d -i', { ...env, ZDOTDIR: cli.directory });
    await zsh.becomesReady();
    for (const { typed, becomes } of lines) expect(await zsh.lineAfter(typed)).toBe(becomes);
    expect(await zsh.lineAfter('echo x | FOO=1 aviary pau\t')).toBe('echo x | FOO=1 aviary pause ');
    await expectNamed(zsh, 'aviary rm it\t', "aviary rm it\\'s\\ \\$\\(touch\\ pwned\\)\\ \\`here\\` ");
    await expectNamed(zsh, 'aviary rm it\\\'s "$(touch pwned)" sb\t', `aviary rm it\\'s "$(touch pwned)" ${id} `);
    expect(existsSync(path.join(cli.directory, 'pwned'))).toBe(false);
  }, 180_000);
});

describe.runIf(canRun('fish'))('fish', () => {
  it('completes by the printed script, on a terminal', async () => {
    const settings = [
      `function fish_prompt; printf '${marks.prompt}'; end`,
      `cd '${cli.directory}'`,
      'aviary completion fish | source',
      `function show; printf '%s' '${marks.start}' (commandline) '${marks.end}'; end`,
      'bind \\co show',
    ];
    await writeFile(path.join(cli.directory, 'settings.fish'), settings.join('\n'));
    const command = `fish --no-config -C 'source "${cli.directory}/settings.fish"' -i`;
    await using fish = new TestTerminal(command, { ...env, TERM: 'xterm' });
    await fish.becomesReady();
    for (const { typed, becomes } of lines) expect(await fish.lineAfter(typed)).toBe(becomes);
    await expectNamed(fish, 'aviary rm it\t', "aviary rm it\\'s\\ \\$\\(touch\\ pwned\\)\\ `here` ");
    await expectNamed(fish, 'aviary rm it\\\'s "(touch pwned)" sb\t', `aviary rm it\\'s "(touch pwned)" ${id} `);
    expect(existsSync(path.join(cli.directory, 'pwned'))).toBe(false);
  }, 180_000);
});
