import { AppError } from '@aviary/core';

/** The bytes that `text` stands for. Throws `invalid_request` for what is not base64: Node would leave that out and go on. */
export function decodeBase64(field: string, text: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  const isWhole = withoutPadding(bytes.toString('base64')) === withoutPadding(text);
  if (isWhole) return bytes;
  throw new AppError('invalid_request', `${field} is not base64`, { details: { field } });
}

const withoutPadding = (text: string) => text.replace(/={1,2}$/, '');
