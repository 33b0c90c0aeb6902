import type { FastifyReply, FastifyRequest } from 'fastify';

export interface CookieOptions {
  path: string;
  maxAgeSec: number;
  isSecure: boolean;
  sameSite: 'Strict' | 'Lax';
}

/** A cookie that we set, whose values need no decoding. */
export function readCookie(request: FastifyRequest, name: string): string | undefined {
  for (const pair of (request.headers.cookie ?? '').split(';')) {
    const [key, value] = pair.trim().split('=', 2);
    if (key === name && value) return value;
  }
  return undefined;
}

/** Sets a cookie that scripts cannot read. `value` is of letters, digits, '.', '_' and '-'. */
export function setCookie(
  reply: FastifyReply,
  name: string,
  { value, ...options }: CookieOptions & { value: string },
): void {
  const secure = options.isSecure ? '; Secure' : '';
  reply.header(
    'set-cookie',
    `${name}=${value}; Path=${options.path}; Max-Age=${options.maxAgeSec}; HttpOnly; SameSite=${options.sameSite}${secure}`,
  );
}
