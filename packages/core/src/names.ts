import { AppError } from './errors.ts';

/** A regular expression of safe names, without anchors. */
export const safeNameSource = '[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}';
const namePattern = new RegExp(`^${safeNameSource}$`);

/** The rule of safe names, as in "name must be …". */
export const safeNameRule = "1 to 64 of letters, digits, '.', '_' and '-', and start with a letter or digit";

/** True for a name that is safe as one part of a path: templates, snapshots, generations. */
export function isSafeName(text: string): boolean {
  return namePattern.test(text);
}

/** Returns `text`, or throws `invalid_request` for `field` with the rule. */
export function parseSafeName(text: string, field = 'name'): string {
  if (!isSafeName(text)) {
    throw new AppError('invalid_request', `${field} must be ${safeNameRule}`, { details: { field } });
  }
  return text;
}

/** The label under which a sandbox's own name is kept: one sandbox has it, so copies do not get it. */
export const nameLabel = 'name';
