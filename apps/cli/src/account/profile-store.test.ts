import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  chooseProfile,
  type Profiles,
  profilesFile,
  putProfile,
  readProfiles,
  removeProfile,
  writeProfiles,
} from './profile-store.ts';

let directory: string;
let file: string;
const kept: Profiles = {
  current: 'work',
  profiles: {
    work: { apiUrl: 'http://one', credential: { type: 'api_key', apiKey: 'avy_1' } },
    home: { apiUrl: 'http://two', credential: { type: 'api_key', apiKey: 'avy_2' } },
  },
};

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-profiles-'));
  file = path.join(directory, 'aviary', 'config.json');
});
afterEach(() => rm(directory, { recursive: true }));

describe('the file of profiles', () => {
  it('is where programs of this user keep their settings', () => {
    expect(profilesFile({ XDG_CONFIG_HOME: '/x', HOME: '/home/me' })).toBe('/x/aviary/config.json');
    expect(profilesFile({ HOME: '/home/me' })).toBe('/home/me/.config/aviary/config.json');
    expect(profilesFile({})).toBeUndefined();
  });

  it('is its owner’s alone, and leaves no draft', async () => {
    await writeProfiles(file, kept);
    expect(readProfiles(file)).toEqual(kept);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file))).mode & 0o777).toBe(0o700);
    expect(await readdir(path.dirname(file))).toEqual(['config.json']);
  });

  it('takes a profile in, which is current when it is to be, and out', async () => {
    await writeProfiles(file, kept);
    const profile = { apiUrl: 'http://three', credential: { type: 'api_key', apiKey: 'avy_3' } } as const;
    await putProfile(file, 'third', profile);
    expect(readProfiles(file).current).toBe('work');
    await putProfile(file, 'third', profile, { isCurrent: true });
    expect(readProfiles(file)).toEqual({ current: 'third', profiles: { ...kept.profiles, third: profile } });
    await removeProfile(file, 'third');
    expect(readProfiles(file)).toEqual({ current: null, profiles: kept.profiles });
  });

  it('may be absent', async () => {
    expect(readProfiles(file)).toEqual({ current: null, profiles: {} });
  });

  it('is refused when others can read it', async () => {
    await writeProfiles(file, kept);
    await chmod(file, 0o640);
    expect(() => readProfiles(file)).toThrow('chmod 600');
  });

  it.each(['', 'null', '{"profiles":null}', '[', '{}'])('is refused when it is damaged: %j', async (text) => {
    await writeProfiles(file, kept);
    await writeFile(file, text);
    expect(() => readProfiles(file)).toThrow('is damaged');
  });
});

describe('the profile that is used', () => {
  it('is the named one, else the current one, else none', () => {
    expect(chooseProfile(kept, 'home')?.profile.apiUrl).toBe('http://two');
    expect(chooseProfile(kept, undefined)?.name).toBe('work');
    expect(chooseProfile({ current: null, profiles: {} }, undefined)).toBeUndefined();
    expect(chooseProfile({ ...kept, current: 'gone' }, undefined)).toBeUndefined();
  });

  it('is not guessed', () => {
    for (const name of ['wrok', 'toString', '__proto__']) {
      expect(() => chooseProfile(kept, name)).toThrow('there is no profile');
    }
  });
});
