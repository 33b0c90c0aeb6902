import { glob, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

/** What the tests start as processes and threads, below the repository. */
export const entryPatterns = ['apps/{cli,control-plane,host-agent}/src/main.ts', 'apps/host-agent/src/**/*-thread.ts'];
/** With native code or data files of their own; esbuild's program is one of those. */
const externalPackages = ['koffi', '@koromix/*', '@lydell/*', '@electric-sql/*', 'esbuild', 'pg-native', 'node'];
/** Bundled CommonJS packages call `require` for Node's own modules; packages' modules may ask where they are. */
const banner = [
  "import { createRequire as aviaryCreateRequire } from 'node:module';",
  'const require = aviaryCreateRequire(import.meta.url);',
  'globalThis.moduleUrl ??= import.meta.url; globalThis.moduleDirname ??= import.meta.dirname;',
].join('');

export interface BundleOptions {
  /** The repository. */
  root: string;
  /** Patterns of the files to bundle, below it. */
  entries: readonly string[];
  /** Where the repository is when the bundles run. */
  inside: string;
  /** Receives the files to lay over the repository. */
  target: string;
}

/**
 * Bundles of the programs and threads of the host, each in the place of its source: on an emulated processor, Node needs most of a
 * minute to find, strip and compile the some hundred modules of one, and a tenth of that for its bundle.
 */
export async function writeBundles({ root, entries: patterns, inside, target }: BundleOptions): Promise<void> {
  const entries: string[] = [];
  for await (const entry of glob(patterns, { cwd: root })) entries.push(entry);
  await build({
    entryPoints: entries,
    outbase: root,
    outdir: target,
    outExtension: { '.js': '.mjs' },
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: externalPackages,
    banner: { js: banner },
    define: { 'import.meta.dirname': 'moduleDirname', 'import.meta.url': 'moduleUrl' },
    legalComments: 'none',
    logLevel: 'silent',
    plugins: [keepPlaces({ root, inside })],
  });
  for (const entry of entries) {
    const file = path.join(target, entry);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, `import './${path.basename(entry, '.ts')}.mjs';\n`);
  }
}

/** Each module finds what lies beside its source where that is, not beside the bundle. */
function keepPlaces({ root, inside }: { root: string; inside: string }): Plugin {
  return {
    name: 'keep-places',
    setup(building) {
      building.onLoad({ filter: /\.ts$/ }, async ({ path: file }) => {
        const place = path.join(inside, path.relative(root, file));
        const places = { moduleDirname: path.dirname(place), moduleUrl: pathToFileURL(place).href };
        const names = Object.entries(places).map(([name, value]) => `const ${name} = ${JSON.stringify(value)};`);
        const contents = `${names.join('')}${await readFile(file, 'utf8')}`;
        return { contents, loader: 'ts' };
      });
    },
  };
}
