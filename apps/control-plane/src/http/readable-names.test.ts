import { apiKeyRoutes, meRoutes, passkeyRoutes, teamRoutes } from '@aviary/api-contract';
import { describe, expect, test } from 'vitest';
import { compileValidator } from './validator.ts';

describe.each([
  ['a key', apiKeyRoutes.createApiKey.body],
  ['a person', meRoutes.updateMe.body],
  ['a team', teamRoutes.createTeam.body],
  ['a passkey', passkeyRoutes.renamePasskey.body],
])('%s', (_kind, body) => {
  const isGood = compileValidator(body, 'body');

  test.each([
    '\u001b[2J',
    'a\r\nb',
    '\u009b31m',
    'txt.\u202eexe',
    '  ',
    '\u200b',
    '\u200d',
    '\u3164',
    'a\u2028b',
    '\ufeffa',
  ])('cannot be named %j', (name) => expect(isGood({ name })).toBe(false));

  test.each(['nightly job', 'Zoë', '王', '👩‍🔬', 'می‌خواهم', '<b>', "o'hara"])('can be named %j', (name) => {
    expect(isGood({ name })).toBe(true);
  });
});
