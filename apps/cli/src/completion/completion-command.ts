import { readFileSync } from 'node:fs';
import type { Command } from '../command.ts';
import { UsageError } from '../exit-codes.ts';

const shells = ['bash', 'zsh', 'fish'] as const;

/** `aviary completion SHELL`. */
export const completionCommand: Command = {
  name: 'completion',
  summary: "Print what makes a shell complete this program's words",
  details: [
    'Where the shell reads it:',
    '  bash  source <(aviary completion bash)       in ~/.bashrc',
    '  zsh   source <(aviary completion zsh)        in ~/.zshrc, after compinit',
    '  fish  aviary completion fish | source        in ~/.config/fish/config.fish',
    'Names of sandboxes, templates and teams are asked of the API, for at most a second.',
  ].join('\n'),
  args: [{ name: 'shell', summary: `${shells.join(', ')}`, values: shells }],
  examples: ['source <(aviary completion bash)', 'aviary completion fish > ~/.config/fish/completions/aviary.fish'],
  async run({ output }, { args: [wanted = ''] }) {
    const shell = shells.find((each) => each === wanted);
    if (!shell) throw new UsageError(`the shells are ${shells.join(', ')}, not ${JSON.stringify(wanted)}`);
    const script = readFileSync(new URL(`aviary.${shell}`, import.meta.url), 'utf8').trimEnd();
    output.result({ shell, script }, () => script);
  },
};
