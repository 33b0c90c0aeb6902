import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError, must } from '@aviary/core';

export interface KernelModule {
  /** As modprobe spells it: with underscores. */
  name: string;
  content: Buffer;
  dependencies: readonly string[];
}

export interface ModuleQuery {
  /** `lib/modules/RELEASE`, with plain modules. */
  directory: string;
  required: readonly string[];
  optional: readonly string[];
}

/**
 * The modules named and all that they depend on, dependencies first. One that the kernel has built in is left out, and so
 * is an optional one that it lacks; throws `integrity` for a required one that it lacks.
 */
export async function collectModules(query: ModuleQuery): Promise<readonly KernelModule[]> {
  const { directory, required, optional } = query;
  const files = new Map<string, string>();
  for (const entry of await readdir(directory, { recursive: true })) {
    const name = moduleName(entry);
    if (name !== undefined) files.set(name, path.join(directory, entry));
  }
  const builtin = new Set(
    (await readFile(path.join(directory, 'modules.builtin'), 'utf8')).split('\n').map(moduleName),
  );
  const collected = new Map<string, KernelModule>();
  const visit = async (name: string, isRequired: boolean): Promise<void> => {
    if (collected.has(name) || builtin.has(name)) return;
    const file = files.get(name);
    if (file === undefined) {
      if (isRequired) throw new AppError('integrity', `the guest kernel in ${directory} has no module ${name}`);
      return;
    }
    const content = await readFile(file);
    const dependencies = moduleDependencies(content);
    for (const dependency of dependencies) await visit(dependency, true);
    collected.set(name, { name, content, dependencies: dependencies.filter((each) => !builtin.has(each)) });
  };
  for (const name of required) await visit(name, true);
  for (const name of optional) await visit(name, false);
  return [...collected.values()];
}

/** `kernel/drivers/net/virtio_net.ko` → `virtio_net`; undefined for what is not a module. */
function moduleName(file: string): string | undefined {
  return /([^/]+)\.ko$/.exec(file)?.[1]?.replaceAll('-', '_');
}

/** The `depends` field of a module's .modinfo section, where entries are NUL-terminated `name=value` texts. */
export function moduleDependencies(content: Buffer): readonly string[] {
  const mark = Buffer.from('\0depends=');
  const at = content.indexOf(mark);
  if (at < 0) return [];
  const start = at + mark.length;
  const end = content.indexOf(0, start);
  const list = content.toString('latin1', start, end < 0 ? start : end);
  return list
    .split(',')
    .filter(Boolean)
    .map((name) => name.replaceAll('-', '_'));
}

/** modules.dep for modules that lie beside it: each with all that it needs, in the reverse of the order of loading, as depmod writes it. */
export function modulesDep(modules: readonly KernelModule[]): string {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const loadOrder = (name: string, loaded: Set<string>): Set<string> => {
    for (const dependency of must(byName.get(name), 'collected modules are closed under dependency').dependencies) {
      if (!loaded.has(dependency)) loadOrder(dependency, loaded).add(dependency);
    }
    return loaded;
  };
  return modules
    .map(({ name }) => {
      const needed = [...loadOrder(name, new Set())].reverse();
      return `${name}.ko:${needed.map((each) => ` ${each}.ko`).join('')}\n`;
    })
    .join('');
}
