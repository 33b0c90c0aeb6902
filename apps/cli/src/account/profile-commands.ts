import { must } from '@aviary/core';
import type { Argument, Candidate, Command, LookUpContext } from '../command.ts';
import { renderTable } from '../output.ts';
import {
  chooseProfile,
  lockProfiles,
  nextProfileAdvice,
  type Profile,
  profilesFile,
  putProfile,
  readProfiles,
  removeProfile,
  requireProfilesFile,
} from './profile-store.ts';

const nameArg: Argument = { name: 'name', summary: "a profile's name", values: knownProfiles };

/** Commands about the servers that one is logged in to. */
export const profileCommands: readonly Command[] = [
  {
    name: 'profile list',
    aliases: ['profile ls'],
    summary: 'List the servers that you are logged in to; the one in use is marked',
    examples: ['aviary profile list'],
    async run({ config, output }) {
      const file = profilesFile(config.env);
      const { current, profiles } = file === undefined ? { current: null, profiles: {} } : readProfiles(file);
      const used = config.profile ?? current;
      const items = Object.entries(profiles).map(([name, profile]) => ({
        name,
        api_url: profile.apiUrl,
        as: describeCredential(profile),
        is_current: name === used,
      }));
      output.result({ items }, () =>
        items.length === 0
          ? "no profiles; 'AVIARY_PROFILE=NAME aviary login --url URL' makes one"
          : renderTable(
              ['', 'NAME', 'SERVER', 'AS'],
              items.map(({ name, api_url, as, is_current }) => [is_current ? '*' : '', name, api_url, as]),
            ),
      );
    },
  },
  {
    name: 'profile use',
    summary: 'Use another profile from now on',
    details: 'AVIARY_PROFILE comes before it.',
    args: [nameArg],
    examples: ['aviary profile use work'],
    async run({ config, output, signal }, { args: [name = ''] }) {
      const file = requireProfilesFile(config.env);
      using _lock = await lockProfiles(file, signal);
      const profile = getProfile(file, name);
      await putProfile(file, name, profile, { isCurrent: true });
      output.result({ profile: name, api_url: profile.apiUrl }, () => `using ${name}: ${profile.apiUrl}`);
      if (config.profile !== undefined && config.profile !== name)
        output.note(`AVIARY_PROFILE names ${config.profile}, and comes before it`);
    },
  },
  {
    name: 'profile remove',
    aliases: ['profile rm'],
    summary: 'Forget a profile without asking its server',
    details: "For servers that are gone. 'AVIARY_PROFILE=NAME aviary logout' ends the session as well.",
    args: [nameArg],
    examples: ['aviary profile remove old-server'],
    async run({ config, output, signal }, { args: [name = ''] }) {
      const file = requireProfilesFile(config.env);
      using _lock = await lockProfiles(file, signal);
      getProfile(file, name);
      const advice = nextProfileAdvice(await removeProfile(file, name));
      output.result({ removed: name }, () => `${name} is forgotten`);
      if (advice !== undefined) output.note(advice);
    },
  },
];

async function knownProfiles({ config }: LookUpContext): Promise<readonly Candidate[]> {
  const file = profilesFile(config.env);
  if (file === undefined) return [];
  return Object.entries(readProfiles(file).profiles).map(([value, { apiUrl }]) => ({ value, summary: apiUrl }));
}

/** Throws `not_found`. */
function getProfile(file: string, name: string): Profile {
  return must(chooseProfile(readProfiles(file), name), 'a profile that is named is there').profile;
}

function describeCredential({ credential }: Profile): string {
  return credential.type === 'session' ? credential.email : 'an API key';
}
