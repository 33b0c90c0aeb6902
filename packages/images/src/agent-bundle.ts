import { readdir, readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { build } from 'esbuild';

/** A file on its way into the toolbox. */
export type ToolboxFile = { target: string; mode: 0o644 | 0o755 } & ({ source: string } | { content: string });

/** Packages with native code: they stay packages, because a bundle cannot carry shared objects. */
const nativePackages = ['koffi', '@koromix/*', '@lydell/*'];

/** ES modules have no `require`; bundled CommonJS packages call it for Node's own modules. */
const requireBanner =
  "import { createRequire as aviaryCreateRequire } from 'node:module';const require = aviaryCreateRequire(import.meta.url);";

/**
 * The guest agent as one file, `agent/main.mjs`. Beside it one file for each of its threads, whose sources are named `*-thread.ts`, and the native
 * packages that they import, for this architecture only.
 */
export async function bundleAgent(entry: string): Promise<readonly ToolboxFile[]> {
  const threads = (await readdir(path.dirname(entry), { recursive: true })).filter((name) =>
    name.endsWith('-thread.ts'),
  );
  const result = await build({
    entryPoints: [
      { in: entry, out: 'main' },
      ...threads.map((name) => ({ in: path.join(path.dirname(entry), name), out: path.basename(name, '.ts') })),
    ],
    outdir: 'agent',
    outExtension: { '.js': '.mjs' },
    absWorkingDir: path.dirname(entry),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: nativePackages,
    banner: { js: requireBanner },
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    metafile: true,
    write: false,
    logLevel: 'silent',
  }).catch((error: unknown) => {
    throw new AppError('invalid_request', `cannot bundle the guest agent ${entry}`, { cause: error });
  });
  const packages = new Map<string, string>();
  for (const [importer, { imports }] of Object.entries(result.metafile.inputs)) {
    for (const imported of imports) {
      // esbuild lists its own helpers, e.g. for `using`, as an import of `<runtime>`; they are in the output.
      if (imported.external && imported.path !== '<runtime>' && !isBuiltin(imported.path)) {
        const from = path.resolve(path.dirname(entry), importer);
        await collectPackage({ name: packageName(imported.path), from, isOptional: false }, packages);
      }
    }
  }
  const files: ToolboxFile[] = result.outputFiles.map((output) => ({
    target: path.join('agent', path.basename(output.path)),
    content: output.text,
    mode: 0o644,
  }));
  for (const [name, directory] of packages) files.push(...(await packageFiles(name, directory)));
  return files;
}

/** `@scope/name/file` → `@scope/name`. */
function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

interface PackageManifest {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  os?: readonly string[];
  cpu?: readonly string[];
}

async function collectPackage(
  { name, from, isOptional }: { name: string; from: string; isOptional: boolean },
  packages: Map<string, string>,
): Promise<void> {
  if (packages.has(name)) return;
  const found = await findPackage(name, path.dirname(from));
  if (!found) {
    if (isOptional) return;
    throw new AppError('not_found', `cannot find the package ${name} that ${from} needs: install the dependencies`);
  }
  const { directory, manifest } = found;
  const fits = (allowed: readonly string[] | undefined, own: string) => allowed === undefined || allowed.includes(own);
  if (isOptional && !(fits(manifest.os, process.platform) && fits(manifest.cpu, process.arch))) return;
  packages.set(name, directory);
  const within = path.join(directory, 'package.json');
  for (const dependency of Object.keys(manifest.dependencies ?? {})) {
    await collectPackage({ name: dependency, from: within, isOptional: false }, packages);
  }
  for (const dependency of Object.keys(manifest.optionalDependencies ?? {})) {
    await collectPackage({ name: dependency, from: within, isOptional: true }, packages);
  }
}

/** Looks for a package as Node does, up from `directory`; by its directory, because `exports` may hide its manifest. */
async function findPackage(
  name: string,
  directory: string,
): Promise<{ directory: string; manifest: PackageManifest } | undefined> {
  for (let at = directory; ; at = path.dirname(at)) {
    const candidate = path.join(at, 'node_modules', name);
    const text = await readFile(path.join(candidate, 'package.json'), 'utf8').catch(() => undefined);
    if (text !== undefined) return { directory: candidate, manifest: JSON.parse(text) as PackageManifest };
    if (at === path.dirname(at)) return undefined;
  }
}

/** A package's files without its sources, documents and types; nested packages were collected by themselves. */
async function packageFiles(name: string, directory: string): Promise<readonly ToolboxFile[]> {
  const files: ToolboxFile[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const source = path.join(entry.parentPath, entry.name);
    const inside = path.relative(directory, source);
    if (!entry.isFile() || unusedInGuest.test(inside)) continue;
    files.push({ target: path.join('agent/node_modules', name, inside), source, mode: 0o644 });
  }
  return files;
}

// The toolbox brings glibc, so builds against another C library are of no use there.
const unusedInGuest =
  /^(?:musl_[^/]*|node_modules|vendor|doc|docs|test|tests)\/|\.(?:md|ts|map|c|cc|cpp|h|hh|hpp|S|s|asm|inc|txt|cmake|gyp)$/;
