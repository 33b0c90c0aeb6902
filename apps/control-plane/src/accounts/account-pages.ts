import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { LinkedPage } from '../mail/mail-kind.ts';

const directory = path.join(import.meta.dirname, 'pages');

/** The pages that links in mails lead to: one document, which shows the form that its path names. */
const pages = ['verify-email', 'reset-password', 'invitation', 'claim'] as const satisfies LinkedPage[];

const assets = {
  'account.js': 'text/javascript; charset=utf-8',
  'account-actions.js': 'text/javascript; charset=utf-8',
  'account.css': 'text/css; charset=utf-8',
} as const;

/** A page holds a token in its address and asks for passwords: nothing but its own files runs in it, nobody frames it, and it tells no other site of itself. */
const headers = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** Pages for what is done by a link, for as long as there is no dashboard: they ask nothing but the public API. */
export async function registerAccountPages(app: FastifyInstance): Promise<void> {
  const serve = async (names: readonly string[], file: string, type: string) => {
    const content = await readFile(path.join(directory, file));
    for (const name of names)
      app.get(`/account/${name}`, async (_request, reply) => reply.headers(headers).type(type).send(content));
  };
  await serve(pages, 'account.html', 'text/html; charset=utf-8');
  for (const [name, type] of Object.entries(assets)) await serve([name], name, type);
}
