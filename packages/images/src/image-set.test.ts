import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ImageSet, loadImages, storeImages } from './image-set.ts';
import { imagesLayout } from './layout.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'aviary-images-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

async function storedImages(): Promise<ImageSet> {
  const layout = imagesLayout(dataDir);
  const images: ImageSet = {
    kernel: { path: path.join(layout.kernelDirectory('6.1'), 'vmlinuz'), version: '6.1' },
    initramfs: { path: layout.initramfs('aa'), id: 'aa' },
    toolbox: { path: layout.toolbox('bb'), id: 'bb' },
    minimal: { rootfsPath: layout.minimalRootFs('cc'), sizeMib: 5_120, id: 'cc' },
  };
  for (const file of [images.kernel.path, images.initramfs.path, images.toolbox.path, images.minimal.rootfsPath]) {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, 'content');
  }
  await storeImages(dataDir, images);
  return images;
}

test('no descriptor means no images', async () => {
  expect(await loadImages(dataDir)).toBeUndefined();
});

test('a set comes back as it was stored, and moves with its data directory', async () => {
  const images = await storedImages();
  expect(await loadImages(dataDir)).toEqual(images);
  const moved = `${dataDir}-moved`;
  await rename(dataDir, moved);
  dataDir = moved;
  expect((await loadImages(moved))?.toolbox.path).toBe(imagesLayout(moved).toolbox('bb'));
});

test('a missing file is named', async () => {
  const images = await storedImages();
  await rm(images.toolbox.path);
  await expect(loadImages(dataDir)).rejects.toMatchObject({
    code: 'integrity',
    message: expect.stringContaining(images.toolbox.path),
  });
});

test.each([
  ['{', 'not JSON'],
  ['{"formatVersion":99}', 'format version is 99'],
  ['{"formatVersion":1}', 'kernel is not an object'],
])('the descriptor %s is refused', async (text, why) => {
  await storedImages();
  await writeFile(imagesLayout(dataDir).descriptor, text);
  await expect(loadImages(dataDir)).rejects.toMatchObject({ code: 'integrity', message: expect.stringContaining(why) });
});

test('a file outside the images directory is refused', async () => {
  await storedImages();
  const { descriptor } = imagesLayout(dataDir);
  await writeFile(descriptor, (await readFile(descriptor, 'utf8')).replace('kernel-6.1/vmlinuz', '../../etc/passwd'));
  await expect(loadImages(dataDir)).rejects.toMatchObject({ message: expect.stringContaining('outside') });
});
