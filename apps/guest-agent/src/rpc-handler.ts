import { Filesystem } from '@aviary/proto/filesystem';
import { Commands } from '@aviary/proto/guestagent';
import { Process } from '@aviary/proto/process';
import { compressionGzip, connectNodeAdapter } from '@connectrpc/connect-node';
import { createFilesystemService, type FilesystemServiceDeps } from './files/filesystem-service.ts';
import type { RpcHandler } from './http-server.ts';
import { createCommandService } from './processes/command-service.ts';
import { createProcessService, type ProcessServiceDeps } from './processes/process-service.ts';

/** Larger than any message: answers stay uncompressed, as the way to the host is short and processors are the users'. */
const neverCompressBytes = 0xffff_ffff;
const maxMessageBytes = 64 * 1024 * 1024;

/** The Connect services as one request handler. */
export function createRpcHandler(deps: ProcessServiceDeps & FilesystemServiceDeps): RpcHandler {
  return connectNodeAdapter({
    routes: (router) => {
      router.service(Process, createProcessService(deps));
      router.service(Commands, createCommandService(deps));
      router.service(Filesystem, createFilesystemService(deps));
    },
    grpc: false,
    grpcWeb: false,
    acceptCompression: [compressionGzip],
    compressMinBytes: neverCompressBytes,
    readMaxBytes: maxMessageBytes,
  });
}
