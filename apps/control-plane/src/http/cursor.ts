import { AppError } from '@aviary/core';

/** A page's end as opaque text. */
export function encodeCursor(parts: string[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/** The parts of a cursor that {@link encodeCursor} made, each as its pattern says. Throws `invalid_request` for any other text. */
export function decodeCursor(cursor: string, patterns: readonly RegExp[]): string[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (Array.isArray(parts) && parts.length === patterns.length) {
      const texts = parts.filter((part): part is string => typeof part === 'string');
      if (patterns.every((pattern, index) => pattern.test(texts[index] ?? '\0'))) return texts;
    }
  } catch {
    // not ours: answered below like any other text that is not
  }
  throw new AppError('invalid_request', 'the cursor is not one that this list gave; start without one', {
    details: { field: 'cursor' },
  });
}

export const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
