import { AppError } from '@aviary/core';

/** Of a body: how deep it nests, and how many objects, lists and members of both it has. No schema of ours comes near. */
export const jsonBounds = { depth: 64, values: 200_000 } as const;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const isOpening = (code: number) => code === 0x5b || code === 0x7b;
const isClosing = (code: number) => code === 0x5d || code === 0x7d;

/**
 * Refuses a body that would keep the parser, and with it everybody else, for seconds: ten megabytes of brackets do. Long strings, which are
 * read at once, may be as long as a body. What is no JSON is the parser's to refuse. Throws `invalid_request`.
 */
export function checkJsonBounds(text: string): void {
  let depth = 0;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) at = endOfString(text, at);
    else if (isClosing(code)) depth--;
    else if (code === comma) values++;
    else if (isOpening(code)) {
      values++;
      if (++depth > jsonBounds.depth) throw refuse(`nests deeper than ${jsonBounds.depth} levels`);
    }
    if (values > jsonBounds.values) throw refuse(`has more than ${jsonBounds.values} values`);
  }
}

/** Where the string ends that begins at `start`; the end of the text for one that does not. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let escapes = 0;
    while (text.charCodeAt(at - 1 - escapes) === backslash) escapes++;
    if (escapes % 2 === 0) return at;
  }
  return text.length;
}

function refuse(what: string): AppError {
  return new AppError('invalid_request', `the request body ${what}`, { details: { field: 'body' } });
}
