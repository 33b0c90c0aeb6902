import { parseArgs } from 'node:util';
import { runPlatformScript, type Stage } from './platform-script.ts';
import { tourTeams } from './teams-tour.ts';

const usage = `npm run tour -- teams

Starts Aviary as the quick start does and shows, command by command, how people share it: from signing up to a second member's
sandbox that another team cannot see, and the audit log that tells all of it. Ends with an error when anything is not as promised.`;

async function main(stage: Stage): Promise<number> {
  const { positionals } = parseArgs({ allowPositionals: true });
  if (positionals.length !== 1 || positionals[0] !== 'teams') {
    stage.output.note(usage);
    return 2;
  }
  // Without a mail server: invitations are handed over by who invites.
  const { AVIARY_SMTP_URL: _mail, ...env } = process.env;
  await using platform = await stage.startPlatform(env);
  await tourTeams(stage, platform.apiUrl);
  return 0;
}

await runPlatformScript({ title: 'tour', usage, main });
