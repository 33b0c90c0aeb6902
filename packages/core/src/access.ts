/** What a member may do in a team, from least to most. Each role may do what those before it may. */
export const teamRoles = ['member', 'admin', 'owner'] as const;
export type TeamRole = (typeof teamRoles)[number];

/** Whether `role` may do what `lowest` is needed for. */
export function hasRole(role: TeamRole, lowest: TeamRole): boolean {
  return teamRoles.indexOf(role) >= teamRoles.indexOf(lowest);
}

/** What an API key is good for: all of one area, or reading everything. A key has one or more. */
export const keyScopes = ['sandboxes', 'templates', 'read'] as const;
export type KeyScope = (typeof keyScopes)[number];

/** What a key can do that nobody restricted. */
export const fullKeyScopes: readonly KeyScope[] = ['sandboxes', 'templates'];

/** Whether a key with `scopes` may be used for a route of one area; `any` is for every key that may do what the route does. */
export function keyAllows(
  scopes: readonly KeyScope[],
  route: { scope: Exclude<KeyScope, 'read'> | 'any'; isRead: boolean },
): boolean {
  if (route.scope === 'any') return route.isRead || scopes.some((scope) => scope !== 'read');
  return scopes.includes(route.scope) || (route.isRead && scopes.includes('read'));
}
