import { access, readdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText } from '@aviary/core';
import type { runProgram } from '@aviary/service-kit';
import { gatewaySubnet, slotRules } from './firewall.ts';
import {
  guestAddress,
  guestMac,
  type SlotAddress,
  type SlotAddressOptions,
  slotAddress,
  slotIndexOf,
  tapMac,
  tapName,
  uplinkName,
} from './slot-address.ts';

const namespaceDirectory = '/run/netns';
/** Starts the alias of a link; its owner follows. */
const markPrefix = 'aviary:';

export interface KernelSlotsOptions extends SlotAddressOptions {
  /** Marks this agent's links in the kernel, so that no other agent takes them for its own. Without it none is marked or told apart. */
  owner?: string;
  /** A named network namespace that plays the host, so that tests leave the real one alone. Default: the agent's own. */
  hostNamespace?: string;
  /** `ip` commands, run inside the slot's namespace, that make the guest's link. Default: a tap that the slot's uid may open. */
  guestLink?: (slot: SlotAddress) => readonly string[];
  /** For each program run. Default 10 000. */
  commandTimeoutMs?: number;
}

export interface KernelSlotsDeps {
  run: typeof runProgram;
}

/** Builds and removes slots in the kernel: `ip` and `nft`, four processes for a slot. Keeps no state of its own. */
export class KernelSlots {
  readonly prefix: string;
  readonly #run: typeof runProgram;
  readonly #options: KernelSlotsOptions;

  constructor({ run }: KernelSlotsDeps, options: KernelSlotsOptions = {}) {
    this.#run = run;
    this.#options = options;
    this.prefix = options.prefix ?? 'avy';
  }

  /** Names and addresses of slot `index`, whether it is built or not. */
  describe(index: number): SlotAddress {
    return slotAddress(index, this.#options);
  }

  /** Makes slot `index`, whole or not at all. Throws `already_exists` when its namespace is there: somebody may live in it. */
  async build(index: number): Promise<SlotAddress> {
    const slot = this.describe(index);
    if (await this.isBuilt(index))
      throw new AppError('already_exists', `cannot build network slot ${index}: namespace ${slot.namespace} exists`);
    try {
      await this.onHost(['ip', '-batch', '-'], hostLinkCommands(slot, this.#mark()));
      await this.#inSlot(slot, ['ip', '-batch', '-'], this.#slotLinkCommands(slot));
      await this.#inSlot(slot, ['nft', '-f', '-'], slotRules(slot));
      // Last: without it nothing is forwarded, so nothing ever is without the rules.
      await this.#inSlot(slot, ['tee', '/proc/sys/net/ipv4/ip_forward'], '1\n');
      return slot;
    } catch (error) {
      const failures = await this.#removalFailures(slot);
      throw new AppError('internal', `cannot build network slot ${index}: ${errorText(error)}`, {
        cause: failures.length === 0 ? error : new AggregateError([error, ...failures], 'and it could not be undone'),
      });
    }
  }

  /**
   * Removes slot `index`; what is gone already is no error. Tries every step, then throws `internal` with all that failed. One that
   * bears another agent's mark is left alone, and an error.
   */
  async remove(index: number): Promise<void> {
    const slot = this.describe(index);
    const failures = await this.#removalFailures(slot);
    if (failures.length === 0) return;
    const cause = new AggregateError(failures);
    throw new AppError('internal', `cannot remove network slot ${index}: ${errorText(cause)}`, { cause });
  }

  /** True when the slot's namespace is there. */
  async isBuilt(index: number): Promise<boolean> {
    return exists(path.join(namespaceDirectory, this.describe(index).namespace));
  }

  /** Slots whose link bears another agent's mark: names may collide, marks do not. */
  async foreign(): Promise<number[]> {
    const links = [...(await this.#links())].filter(([, mark]) => this.#isOthers(mark));
    return links.flatMap(([name]) => slotIndexOf(name, this.prefix) ?? []);
  }

  async isForeign(index: number): Promise<boolean> {
    return (await this.foreign()).includes(index);
  }

  /** Indices of all slots of which the kernel has anything, a namespace or a link without one, and that are not another agent's. Ascending. */
  async scan(): Promise<number[]> {
    const [namespaces, links] = await Promise.all([namespaceNames(), this.#links()]);
    const names = [...namespaces, ...links.keys()].filter((name) => !this.#isOthers(links.get(name)));
    const indices = names.map((name) => slotIndexOf(name, this.prefix));
    return [...new Set(indices.filter((index) => index !== undefined))].sort((a, b) => a - b);
  }

  /** Runs a program in the network that plays the host. */
  onHost([file, ...args]: readonly [string, ...string[]], input?: string) {
    const { hostNamespace } = this.#options;
    if (hostNamespace === undefined) return this.#program(file, args, input);
    return this.#program('nsenter', [`--net=${path.join(namespaceDirectory, hostNamespace)}`, file, ...args], input);
  }

  /** nsenter rather than `ip netns exec`: the latter makes a mount namespace and a sysfs for each run. */
  #inSlot(slot: SlotAddress, command: readonly string[], input: string) {
    return this.#program('nsenter', [`--net=${path.join(namespaceDirectory, slot.namespace)}`, ...command], input);
  }

  #program(file: string, args: readonly string[], input?: string) {
    const { commandTimeoutMs = 10_000 } = this.#options;
    return this.#run(file, args, { timeoutMs: commandTimeoutMs, ...(input === undefined ? {} : { input }) });
  }

  #slotLinkCommands(slot: SlotAddress): string {
    const { guestLink = tapCommands } = this.#options;
    return lines(
      'link set lo up',
      // No link-local IPv6 address, so no router or neighbour traffic of that kind either.
      `link set ${uplinkName} addrgenmode none`,
      `addr add ${slot.vethSlotAddress}/31 dev ${uplinkName}`,
      `link set ${uplinkName} up`,
      `route add default via ${slot.vethHostAddress}`,
      ...guestLink(slot),
      `link set ${tapName} address ${tapMac} addrgenmode none`,
      `addr add ${gatewaySubnet} dev ${tapName}`,
      `link set ${tapName} up`,
      // The guest's address never changes, so a restored guest is reached without asking for it first.
      `neigh replace ${guestAddress} lladdr ${guestMac} dev ${tapName} nud permanent`,
    );
  }

  /** The link first: that removes its peer and routes at once, where the end of a namespace takes effect later. */
  async #removalFailures(slot: SlotAddress): Promise<unknown[]> {
    const failures: unknown[] = [];
    const attempt = async (command: [string, ...string[]], isGone: () => Promise<boolean>) => {
      try {
        await this.onHost(command);
      } catch (error) {
        if (!(await isGone().catch(() => false))) failures.push(error);
      }
    };
    const links = await this.#links();
    if (this.#isOthers(links.get(slot.vethName)))
      return [new AppError('conflict', `link ${slot.vethName} belongs to another host agent`)];
    if (links.has(slot.vethName))
      await attempt(['ip', 'link', 'del', 'dev', slot.vethName], async () => !(await this.#links()).has(slot.vethName));
    await attempt(['ip', 'netns', 'del', slot.namespace], async () => !(await this.isBuilt(slot.index)));
    return failures;
  }

  #mark(): string | undefined {
    return this.#options.owner === undefined ? undefined : `${markPrefix}${this.#options.owner}`;
  }

  /** A link without a mark is nobody's in particular: it counts as this agent's, whose prefix it bears. */
  #isOthers(mark: string | undefined): boolean {
    return this.#options.owner !== undefined && mark?.startsWith(markPrefix) === true && mark !== this.#mark();
  }

  /** The veth links of the host by name, each with its mark if it has one. */
  async #links(): Promise<Map<string, string | undefined>> {
    const { stdout } = await this.onHost(['ip', '-json', 'link', 'show', 'type', 'veth']);
    const links: { ifname?: string; ifalias?: string }[] = stdout.trim() === '' ? [] : JSON.parse(stdout);
    return new Map(links.flatMap(({ ifname, ifalias }) => (ifname === undefined ? [] : [[ifname, ifalias]])));
  }
}

function hostLinkCommands(slot: SlotAddress, mark: string | undefined): string {
  return lines(
    `netns add ${slot.namespace}`,
    `link add ${slot.vethName} type veth peer name ${uplinkName} netns ${slot.namespace}`,
    ...(mark === undefined ? [] : [`link set ${slot.vethName} alias ${mark}`]),
    `link set ${slot.vethName} addrgenmode none`,
    `addr add ${slot.vethHostAddress}/31 dev ${slot.vethName}`,
    `link set ${slot.vethName} up`,
    `route add ${slot.hostAddress}/32 via ${slot.vethSlotAddress} dev ${slot.vethName} src ${slot.vethHostAddress}`,
  );
}

function tapCommands(slot: SlotAddress): string[] {
  return [`tuntap add dev ${slot.tapName} mode tap user ${slot.uid} vnet_hdr`];
}

function lines(...commands: string[]): string {
  return `${commands.join('\n')}\n`;
}

async function namespaceNames(): Promise<string[]> {
  try {
    return await readdir(namespaceDirectory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // made with the first namespace
    throw error;
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
