import { createHash } from 'node:crypto';
import { chmod, copyFile, cp, mkdir, realpath, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { bundleAgent, type ToolboxFile } from './agent-bundle.ts';
import { hashFile, publishFile, runStep, type StepContext, type StepOutput } from './build-step.ts';
import type { HostFiles } from './host-files.ts';
import type { KernelOutput } from './kernel.ts';
import { type Architecture, recipeVersions } from './recipe.ts';

export interface ToolboxInputs {
  kernel: KernelOutput;
  guestAgentEntry: string;
  architecture: Architecture;
  files: HostFiles;
}

const squashTimeoutMs = 10 * 60_000;

/**
 * The read-only drive that every guest mounts at /.aviary: the guest agent, Node, tini, busybox and resize2fs with their own
 * dynamic loader and libraries, so that they run in any root file system; and the kernel's modules, for whatever a guest comes to load.
 * Equal inputs give the same bytes.
 */
export async function buildToolbox(context: StepContext, inputs: ToolboxInputs): Promise<StepOutput> {
  const { kernel } = inputs;
  const contents = await toolboxContents(context, inputs);
  const manifest = await Promise.all(contents.map(describeFile));
  return await runStep(context, {
    step: 'toolbox',
    detail: 'toolbox (Node, guest agent)',
    inputs: { recipe: recipeVersions.toolbox, squash: squashOptions, kernel: kernel.id, manifest },
    build: async (work) => {
      const root = path.join(work, 'root');
      for (const file of contents) await placeFile(root, file);
      await cp(kernel.modulesDirectory, path.join(root, 'modules', kernel.release), { recursive: true });
      const image = path.join(work, 'toolbox.sqsh');
      context.progress.working('toolbox', 'compressing');
      await context.run('mksquashfs', [root, image, ...squashOptions], {
        signal: context.signal,
        timeoutMs: squashTimeoutMs,
      });
      const id = await hashFile(image);
      const target = context.layout.toolbox(id);
      await publishFile(image, target);
      return { id, path: target };
    },
  });
}

const squashOptions = [
  ...['-noappend', '-quiet', '-no-progress', '-no-xattrs', '-all-root'],
  ...['-mkfs-time', '0', '-all-time', '0', '-comp', 'zstd', '-Xcompression-level', '9'],
];

/** What the kernel calls for a module where the root file system brings no modprobe of its own. */
const modprobeScript = '#!/.aviary/bin/busybox sh\nexec /.aviary/bin/busybox modprobe "$@"\n';

/** Every file of the toolbox but the modules, in the order of their names. */
async function toolboxContents(context: StepContext, inputs: ToolboxInputs): Promise<readonly ToolboxFile[]> {
  const { files, guestAgentEntry, architecture } = inputs;
  const contents: ToolboxFile[] = [
    { target: 'bin/node', source: files.node, mode: 0o755 },
    { target: 'bin/busybox', source: files.busybox, mode: 0o755 },
    { target: 'bin/modprobe', content: modprobeScript, mode: 0o755 },
    { target: 'bin/tini', source: files.tini, mode: 0o755 },
    { target: 'bin/resize2fs', source: files.resize2fs, mode: 0o755 },
    ...(await bundleAgent(path.resolve(guestAgentEntry))),
  ];
  const linked = contents.flatMap((file) =>
    'source' in file && (/^bin\/(?:node|resize2fs)$/.test(file.target) || file.target.endsWith('.node'))
      ? [file.source]
      : [],
  );
  const libraries = await sharedLibraries(context, linked);
  if (!libraries.has(architecture.loader))
    throw new AppError('internal', `ldd did not name the loader ${architecture.loader}`);
  for (const [name, source] of libraries) contents.push({ target: `lib/${name}`, source, mode: 0o755 });
  return contents.sort((a, b) => (a.target < b.target ? -1 : 1));
}

/** What the programs load, by file name, as this machine's loader finds it. */
async function sharedLibraries(
  { run, signal }: StepContext,
  programs: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const libraries = new Map<string, string>();
  for (const program of programs) {
    const { stdout } = await run('ldd', [program], { signal });
    for (const line of stdout.split('\n')) {
      const missing = /^\s*(\S+) => not found/.exec(line)?.[1];
      if (missing !== undefined) throw new AppError('not_found', `${program} needs ${missing}, which is not installed`);
      const file = /(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1];
      if (file !== undefined) libraries.set(path.basename(file), await realpath(file));
    }
  }
  return libraries;
}

async function describeFile(file: ToolboxFile): Promise<readonly [string, number, string]> {
  const hash = 'source' in file ? await hashFile(file.source) : createHash('sha256').update(file.content).digest('hex');
  return [file.target, file.mode, hash];
}

async function placeFile(root: string, file: ToolboxFile): Promise<void> {
  const target = path.join(root, file.target);
  await mkdir(path.dirname(target), { recursive: true, mode: 0o755 });
  if ('source' in file) await copyFile(file.source, target);
  else await writeFile(target, file.content);
  await chmod(target, file.mode);
}
