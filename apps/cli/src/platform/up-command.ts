import type { Command, CommandContext } from '../command.ts';
import { ExitWith } from '../exit-codes.ts';
import type { Style } from '../output.ts';
import { isRoot, runAsRoot } from './become-root.ts';
import { findClaimLink } from './claim-link.ts';
import { ensureHostPackages, ensureImages } from './guest-images.ts';
import { readableLogLine } from './log-lines.ts';
import { reservePlatform } from './reserve-platform.ts';
import { type Platform, startPlatform } from './start-platform.ts';

/** `aviary up`: the whole platform on this machine. */
export const upCommand: Command = {
  name: 'up',
  summary: 'Run Aviary on this machine',
  details: [
    'Installs what is missing, builds the guest images once, then runs control plane and host agent until Ctrl-C.',
    'Sandboxes go on when it stops, and are found again when it starts.',
    '',
    'Several run side by side on one machine, each with its own AVIARY_DATA_DIR; ports that are in use are gone around.',
    "Its services' lines are kept: 'aviary logs'. 'aviary down' stops the sandboxes as well.",
    '',
    'Environment:',
    '  AVIARY_DATA_DIR (/var/lib/aviary)                      everything that is kept',
    '  AVIARY_HOST (127.0.0.1), AVIARY_PORT (7070)            where the API listens',
    '  AVIARY_AGENT_HOST (127.0.0.1), AVIARY_AGENT_PORT (7071)  where the host agent listens',
    '  AVIARY_PUBLIC_URL                                      where people reach it: for links',
    '  AVIARY_AUTH_PROVIDERS                                  where people can sign in instead of by password: a JSON list, or a file with one',
    '  AVIARY_SMTP_URL, AVIARY_MAIL_FROM                      a mail server, and who its mails are from; without one links are logged',
    '  AVIARY_DATABASE_URL                                    a PostgreSQL to use in place of the embedded database',
    '  AVIARY_WARM_POOL (1)                                   microVMs kept ready per template and size; 0 is none',
    '  AVIARY_READY_SLOTS (4), AVIARY_MAX_SLOTS (1024)        network slots built ahead, and at most',
    '  AVIARY_NETWORK_PREFIX, AVIARY_FIRST_SLOT               names and addresses of the slots',
    '  AVIARY_REAPER_INTERVAL_MS (2000)                       between looks for idle sandboxes',
    '  AVIARY_LOG_LEVEL (info)',
  ].join('\n'),
  examples: ['aviary up', 'AVIARY_DATA_DIR=~/aviary aviary up', 'AVIARY_PORT=8080 aviary up'],
  async run(context) {
    const { config, output, signal } = context;
    const onNote = (text: string) => output.note(text);
    if (!isRoot()) throw new ExitWith(await runAsRoot({ what: "'aviary up'", env: config.env, note: onNote, signal }));
    // First: minutes of building for a port that is in use help nobody.
    await using reservation = await reservePlatform({ config, signal, onNote });
    await ensureHostPackages(output, signal);
    await ensureImages({ dataDir: config.dataDir, arePrebuilt: config.areImagesPrebuilt }, output, signal);
    const onLine = makeLinePrinter(context);
    const platform = await startPlatform({ config, reservation, signal, onLine, onStep: onNote });
    try {
      await announce(context, platform);
      await aborted(signal);
      output.note('stopping; sandboxes that run go on');
    } finally {
      await platform[Symbol.asyncDispose]();
    }
  },
};

async function announce({ output, config }: CommandContext, platform: Platform): Promise<void> {
  const docsUrl = `${platform.apiUrl}/docs`;
  const claim = await findClaimLink(config, platform.apiUrl);
  const result = {
    api_url: platform.apiUrl,
    docs_url: docsUrl,
    api_key_file: platform.apiKeyFile,
    data_dir: platform.dataDir,
    pid: process.pid,
    claim_url: claim?.url ?? null,
  };
  output.result(result, () =>
    [
      '',
      output.paint('bold', 'Aviary is running.', 'stdout'),
      `  API      ${platform.apiUrl}`,
      `  Docs     ${docsUrl}`,
      `  API key  in ${platform.apiKeyFile}`,
      '',
      'In another terminal:',
      `  export AVIARY_API_URL=${platform.apiUrl}`,
      `  export AVIARY_API_KEY="$(sudo cat ${platform.apiKeyFile})"`,
      `  npx aviary run -- 'uname -a'`,
      // Until somebody has; without an account everything works by the key.
      ...(claim
        ? [
            '',
            'Become the first administrator, once, in a browser:',
            `  ${claim.url}`,
            `or by 'npx aviary admin claim', which asks for this code: ${claim.code}`,
          ]
        : []),
      '',
      `Ctrl-C stops it; sandboxes go on ('aviary down' pauses them). Data: ${config.dataDir}`,
    ].join('\n'),
  );
}

const serviceColors: Record<string, Style> = { 'control-plane': 'cyan', 'host-agent': 'green' };

/** Prints the services' lines, each after its service's name. */
function makeLinePrinter({ output }: CommandContext): (service: string, line: string) => void {
  return (service, line) => {
    const name = output.paint(serviceColors[service] ?? 'dim', service.padEnd(13));
    output.note(`${name} | ${output.isJson ? line : readableLogLine(line)}`);
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
