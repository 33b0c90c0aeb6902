import { sandboxStatuses } from '@aviary/core';
import { describe, expect, it } from 'vitest';
import { commands } from '../commands.ts';
import { expectedWord } from './expected-word.ts';

/** What may come at the `|` of a line: words that are known, and the values that are. */
function at(line: string) {
  const typed = line.slice(0, line.indexOf('|')).split(' ').slice(1);
  const { words, values, prefix } = expectedWord(commands, typed.slice(0, -1), typed.at(-1) ?? '');
  return { words: words.map(({ value }) => value), values, prefix };
}

describe('the word that is expected', () => {
  it('is the next word of any command or alias of the table', () => {
    const first = at('aviary |').words;
    for (const { name, aliases = [] } of commands) {
      for (const known of [name, ...aliases]) {
        const words = known.split(' ');
        expect(first).toContain(words[0]);
        expect(at(`aviary ${[...words.slice(0, -1), ''].join(' ')}|`).words).toContain(words.at(-1));
      }
    }
    expect(new Set(first).size).toBe(first.length);
  });

  it('is any flag of the command that is not given yet, and of every command', () => {
    for (const command of commands) {
      const { words } = at(`aviary ${command.name} -|`);
      for (const name of [...Object.keys(command.flags ?? {}), 'json', 'help']) expect(words).toContain(`--${name}`);
    }
    expect(at('aviary sandbox list --all --json -|').words).not.toContain('--all');
    expect(at('aviary sandbox list -a -|').words).not.toContain('--all');
    expect(at('aviary sandbox list --status running -|').words).toContain('--status');
    expect(at('aviary frobnicate -|').words).toEqual(['--help']);
    expect(at('aviary -|').words).toEqual(['--help', '--version']);
  });

  it('is the value of the flag before it, however that was written', () => {
    expect(at('aviary sandbox list --status |')).toEqual({ words: [], values: sandboxStatuses, prefix: '' });
    expect(at('aviary sandbox list --status=r|')).toEqual({ words: [], values: sandboxStatuses, prefix: '--status=' });
    expect(at('aviary ls --status=running --status |').values).toBe(sandboxStatuses);
    expect(at('aviary run -t |').values).toBeTypeOf('function');
    expect(at('aviary exec sb-1 -du |')).toEqual({ words: [], values: undefined, prefix: '' });
    expect(at('aviary exec sb-1 -uroot |').words).toContain('--');
    expect(at('aviary team invite --role |').values).toEqual(['admin', 'member']);
    expect(at('aviary sandbox list --constructor=|').values).toBeUndefined();
  });

  it('is the argument whose turn it is, not counting flags and their values', () => {
    expect(at('aviary team role --team x ada@example.com |').values).toEqual(['admin', 'member']);
    expect(at('aviary logs -n 5 |').values).toEqual(['control-plane', 'host-agent']);
    expect(at('aviary files put sb-1 |').values).toBe('paths');
    expect(at('aviary files put sb-1 a |').values).toBeUndefined();
    expect(at('aviary rm sb-1 sb-2 |').values).toBeTypeOf('function');
    expect(at('aviary completion |').values).toEqual(['bash', 'zsh', 'fish']);
    // Only flags are left to come.
    expect(at('aviary sandbox get sb-1 |').words).toEqual(['--json', '--help']);
  });

  it('is nothing of ours behind --', () => {
    expect(at('aviary exec sb-1 -- |')).toEqual({ words: [], values: undefined, prefix: '' });
    expect(at('aviary exec sb-1 -- ls --|').words).toEqual([]);
  });
});
