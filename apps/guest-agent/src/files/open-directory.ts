import { constants, openSync, statfsSync } from 'node:fs';
import { AppError } from '@aviary/core';
import { failedTo, type OperationContext } from './operation-context.ts';

/** Magic numbers of statfs(2): NFS, SMB, SMB2, CIFS, Ceph, 9p, FUSE. Changes made elsewhere raise no events there. */
const networkFileSystems = new Set([0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x00c36400, 0x01021997, 0x65735546]);

/** Opens a directory that the user may list, to watch it. Who gets it closes the descriptor. Throws `invalid_request` for what is none. */
export function openDirectory(
  _context: OperationContext,
  { path, allowsNetworkMounts }: { path: string; allowsNetworkMounts: boolean },
): { fd: number } {
  try {
    if (!allowsNetworkMounts && networkFileSystems.has(statfsSync(path).type)) {
      throw new AppError(
        'invalid_request',
        `cannot watch ${JSON.stringify(path)}: it is a network mount, which hides changes`,
      );
    }
    return { fd: openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK) };
  } catch (error) {
    throw failedTo('watch', path, error);
  }
}
