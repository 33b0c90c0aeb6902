import { AppError } from '@aviary/core';
import type { FastifyRequest } from 'fastify';

/** Where the page is from that sends the request, of a platform that people reach at `publicUrl`: `unknown` for programs, which are no pages. */
export function readPageOrigin(publicUrl: URL, request: FastifyRequest): 'own' | 'foreign' | 'unknown' {
  const { origin, host } = request.headers;
  const fetchSite = request.headers['sec-fetch-site'];
  if (origin !== undefined) {
    const own = [publicUrl.origin, `http://${host}`, `https://${host}`];
    return own.includes(origin) ? 'own' : 'foreign';
  }
  if (fetchSite === undefined) return 'unknown';
  return fetchSite === 'same-origin' ? 'own' : 'foreign';
}

/** What a page of another site is told. */
export function foreignPage(): AppError {
  return new AppError(
    'forbidden',
    'cookies are for pages of this site alone; programs ask for the refresh token in the body, and send it there',
    { details: { header: 'origin' } },
  );
}
