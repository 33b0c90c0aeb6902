import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';
import { imagesLayout } from './layout.ts';

/** Everything that a guest boots from. Paths are absolute; ids go into snapshot manifests. */
export interface ImageSet {
  /** `version` is the kernel's release and its package's version: `6.1.0-56-cloud-amd64_6.1.192-2`. */
  kernel: { path: string; version: string };
  /** `id` is the file's SHA-256, in hex. */
  initramfs: { path: string; id: string };
  /** A squashfs; `id` is its SHA-256, in hex. Older toolboxes stay beside it: snapshots refer to them. */
  toolbox: { path: string; id: string };
  /** Raw ext4 image, sparse; `sizeMib` is its virtual size. Never written: sandboxes put a layer on top. */
  minimal: { rootfsPath: string; sizeMib: number; id: string };
}

const descriptorVersion = 1;

/** The images of `dataDir`, or undefined when none were built there. Throws `integrity` when a file that the descriptor names is gone. */
export async function loadImages(dataDir: string): Promise<ImageSet | undefined> {
  const layout = imagesLayout(dataDir);
  let text: string;
  try {
    text = await readFile(layout.descriptor, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const images = parseDescriptor(text, layout.root);
  for (const file of [images.kernel.path, images.initramfs.path, images.toolbox.path, images.minimal.rootfsPath]) {
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile())
      throw new AppError('integrity', `cannot load the guest images: ${file} is missing; build the images again`);
  }
  return images;
}

/** Writes the descriptor, durably: the set is complete from here on. */
export async function storeImages(dataDir: string, images: ImageSet): Promise<void> {
  const { root, descriptor } = imagesLayout(dataDir);
  const inside = (file: string) => path.relative(root, file);
  const document = {
    formatVersion: descriptorVersion,
    kernel: { file: inside(images.kernel.path), version: images.kernel.version },
    initramfs: { file: inside(images.initramfs.path), id: images.initramfs.id },
    toolbox: { file: inside(images.toolbox.path), id: images.toolbox.id },
    minimal: { file: inside(images.minimal.rootfsPath), id: images.minimal.id, sizeMib: images.minimal.sizeMib },
  };
  await writeDurableFile(descriptor, `${JSON.stringify(document, undefined, 2)}\n`, 0o644);
}

function parseDescriptor(text: string, root: string): ImageSet {
  const bad = (why: string) =>
    new AppError('integrity', `cannot read ${path.join(root, 'images.json')}: ${why}; build the images again`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw bad('it is not JSON');
  }
  const record = (value: unknown, name: string) => {
    if (typeof value !== 'object' || value === null) throw bad(`${name} is not an object`);
    return value as Record<string, unknown>;
  };
  const top = record(document, 'the document');
  if (top['formatVersion'] !== descriptorVersion) {
    throw bad(`its format version is ${String(top['formatVersion'])}, and this program knows ${descriptorVersion}`);
  }
  const part = (name: string) => {
    const fields = record(top[name], name);
    const string = (field: string) => {
      const value = fields[field];
      if (typeof value !== 'string' || value === '') throw bad(`${name}.${field} is not a text`);
      return value;
    };
    const file = path.resolve(root, string('file'));
    if (!file.startsWith(`${root}${path.sep}`)) throw bad(`${name}.file points outside the images directory`);
    return { fields, string, file };
  };
  const kernel = part('kernel');
  const initramfs = part('initramfs');
  const toolbox = part('toolbox');
  const minimal = part('minimal');
  const sizeMib = minimal.fields['sizeMib'];
  if (typeof sizeMib !== 'number' || !Number.isInteger(sizeMib) || sizeMib < 1)
    throw bad('minimal.sizeMib is not a size');
  return {
    kernel: { path: kernel.file, version: kernel.string('version') },
    initramfs: { path: initramfs.file, id: initramfs.string('id') },
    toolbox: { path: toolbox.file, id: toolbox.string('id') },
    minimal: { rootfsPath: minimal.file, sizeMib, id: minimal.string('id') },
  };
}
