import path from 'node:path';

/** Every path below `DATA/images`. Files under final names are complete and never change. */
export interface ImagesLayout {
  root: string;
  /** The {@link ImageSet}: written last. */
  descriptor: string;
  /** Held by the one process that builds. */
  lock: string;
  /** One directory per step at work; whatever is in it when a build starts is a dead build's. */
  temporary: string;
  /** What each finished step made and from which inputs. */
  stepRecord(step: string): string;
  kernelDirectory(version: string): string;
  kernelModules(version: string): string;
  initramfs(id: string): string;
  toolbox(id: string): string;
  minimalRootFs(id: string): string;
}

export function imagesLayout(dataDir: string): ImagesLayout {
  const root = path.resolve(dataDir, 'images');
  return {
    root,
    descriptor: path.join(root, 'images.json'),
    lock: path.join(root, 'build.lock'),
    temporary: path.join(root, 'tmp'),
    stepRecord: (step) => path.join(root, 'steps', `${step}.json`),
    kernelDirectory: (version) => path.join(root, `kernel-${version}`),
    kernelModules: (version) => path.join(root, `kernel-${version}`, 'modules'),
    initramfs: (id) => path.join(root, `initramfs-${id}.cpio`),
    toolbox: (id) => path.join(root, `toolbox-${id}.sqsh`),
    minimalRootFs: (id) => path.join(root, 'minimal', `rootfs-${id}.ext4`),
  };
}
