import { describe, expect, test } from 'vitest';
import { hasRole, type KeyScope, keyAllows, teamRoles } from './access.ts';

describe('roles', () => {
  test.each(teamRoles.flatMap((role, index) => teamRoles.map((lowest, at) => ({ role, lowest, may: index >= at }))))(
    'a role of $role where $lowest is needed: $may',
    ({ role, lowest, may }) => {
      expect(hasRole(role, lowest)).toBe(may);
    },
  );
});

describe('scopes of a key', () => {
  const cases: [KeyScope[], 'sandboxes' | 'templates' | 'any', boolean, boolean][] = [
    [['sandboxes'], 'sandboxes', false, true],
    [['sandboxes'], 'templates', true, false],
    [['templates'], 'sandboxes', false, false],
    [['read'], 'sandboxes', true, true],
    [['read'], 'sandboxes', false, false],
    [['read', 'templates'], 'templates', false, true],
    [[], 'any', true, true],
    [['templates'], 'any', false, true],
    [['read'], 'any', true, true],
    [['read'], 'any', false, false],
    [[], 'sandboxes', true, false],
  ];
  test.each(cases)('%j for %s, reading: %s → %s', (scopes, scope, isRead, may) => {
    expect(keyAllows(scopes, { scope, isRead })).toBe(may);
  });
});
