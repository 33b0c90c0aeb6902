import { isIP } from 'node:net';
import { AppError } from '@aviary/core';

/** What passkeys are bound to: a host name, and where the pages are from that use them. */
export interface PasskeySite {
  rpId: string;
  origin: string;
}

/**
 * The site of a platform that people reach at `publicUrl`. Browsers know passkeys of names alone: this machine is `localhost`, however it is
 * written. Throws `invalid_state` for another address.
 */
export function passkeySite(publicUrl: URL): PasskeySite {
  const site = new URL(publicUrl.origin);
  const host = site.hostname.replace(/^\[(.*)\]$/, '$1');
  if (host === '127.0.0.1' || host === '::1') site.hostname = 'localhost';
  else if (isIP(host)) {
    throw new AppError(
      'invalid_state',
      'browsers take passkeys for host names alone; whoever runs the platform sets AVIARY_PUBLIC_URL to one',
    );
  }
  return { rpId: site.hostname, origin: site.origin };
}
