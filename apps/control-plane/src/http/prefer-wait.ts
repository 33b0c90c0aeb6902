import { AppError } from '@aviary/core';
import type { FastifyRequest } from 'fastify';

const maxWaitSec = 600;

/** Milliseconds that the client would wait by `Prefer: wait=SECONDS` (RFC 7240), or 0. Other preferences are left aside. */
export function readWaitMs(request: FastifyRequest): number {
  const header = request.headers['prefer'];
  const text = Array.isArray(header) ? header.join(',') : (header ?? '');
  for (const preference of text.split(/[,;]/)) {
    const [name, value = ''] = preference.trim().split('=', 2);
    if (name?.toLowerCase() !== 'wait') continue;
    if (!/^"?\d{1,9}"?$/.test(value.trim())) {
      throw new AppError('invalid_request', 'Prefer: wait must be whole seconds, as in wait=30', {
        details: { field: 'Prefer' },
      });
    }
    return Math.min(Number(value.trim().replaceAll('"', '')), maxWaitSec) * 1000;
  }
  return 0;
}
