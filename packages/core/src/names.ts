import { AppError } from './errors.ts';

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

/** True for a name that is safe as one part of a path: templates, snapshots, generations. */
export function isSafeName(text: string): boolean {
  return namePattern.test(text);
}

/** Returns `text`, or throws `invalid_request` for `field` with the rule. */
export function parseSafeName(text: string, field = 'name'): string {
  if (!isSafeName(text)) {
    throw new AppError(
      'invalid_request',
      `${field} must be 1 to 64 of letters, digits, '.', '_' and '-', and start with a letter or digit`,
      {
        details: { field },
      },
    );
  }
  return text;
}
