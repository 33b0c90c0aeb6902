import { chmod, stat } from 'node:fs/promises';
import { AppError, errorText } from '@aviary/core';
import type { Logger } from '@aviary/service-kit';
import { hostRules, hostTable } from './firewall.ts';
import type { KernelSlots } from './slot.ts';
import { slotNamePrefix } from './slot-address.ts';

/**
 * Removes what an agent left under a prefix that it no longer uses: its slots, and the table that they shared. What bears another
 * agent's mark stays, and so does the table then.
 */
export async function removePrefix(slots: KernelSlots, logger: Logger): Promise<void> {
  try {
    const left = await slots.scan();
    for (const index of left) await slots.remove(index);
    const tables = await slots.onHost(['nft', 'list', 'tables', 'inet']);
    const table = hostTable(slots.prefix);
    const isShared = (await slots.foreign()).length > 0;
    if (!isShared && tables.stdout.split(/\s+/).includes(table))
      await slots.onHost(['nft', 'delete', 'table', 'inet', table]);
    logger.info({ prefix: slots.prefix, slots: left.length }, 'removed what was left of another prefix');
  } catch (error) {
    logger.warn({ prefix: slots.prefix, error: errorText(error) }, 'cannot remove all that was left of another prefix');
  }
}

interface ForwardChain {
  family: string;
  table: string;
  name: string;
  policy: string;
}

/**
 * Sets the host up for all slots: forwarding on, the shared table in place. Safe to run again at any time, also while
 * guests are connected.
 *
 * Docker (and whoever else uses iptables) may drop whatever it does not know in `ip filter FORWARD`, and a drop in any
 * chain is final. There, two rules let our links pass; what guests may do is decided by our own table all the same.
 * Other firewalls with a dropping forward chain are named in the log: only their owner can open them.
 */
export async function prepareHost(slots: KernelSlots, logger: Logger): Promise<void> {
  await slots.onHost(['nft', '-f', '-'], hostRules(slots.prefix));
  await slots.onHost(['tee', '/proc/sys/net/ipv4/ip_forward'], '1\n');
  for (const chain of await forwardChains(slots)) {
    if (chain.table === hostTable(slots.prefix)) continue;
    if (chain.family === 'ip' && chain.table === 'filter' && chain.name === 'FORWARD') await letPass(slots, chain);
    else if (chain.policy === 'drop')
      logger.warn(
        { chain: `${chain.family} ${chain.table} ${chain.name}` },
        `another firewall drops forwarded traffic; allow links named ${slotNamePrefix(slots.prefix)}* in it, or guests stay without internet`,
      );
  }
}

async function forwardChains(slots: KernelSlots): Promise<ForwardChain[]> {
  const { stdout } = await slots.onHost(['nft', '--json', 'list', 'chains']);
  const { nftables }: { nftables: { chain?: ForwardChain & { hook?: string } }[] } = JSON.parse(stdout);
  return nftables.flatMap(({ chain }) => (chain?.hook === 'forward' ? [chain] : []));
}

/** Only what iptables itself can read back: an expression that it does not know would make it refuse the whole table. */
async function letPass(slots: KernelSlots, { family, table, name }: ForwardChain): Promise<void> {
  const links = `${slotNamePrefix(slots.prefix)}*`;
  const { stdout } = await slots.onHost(['nft', '--json', 'list', 'chain', family, table, name]);
  const missing = ['iifname', 'oifname'].filter((key) => !matchesLink(stdout, key, links));
  if (missing.length === 0) return;
  const rules = missing.map((key) => `insert rule ${family} ${table} ${name} ${key} "${links}" counter accept\n`);
  await slots.onHost(['nft', '-f', '-'], rules.join(''));
}

function matchesLink(chainJson: string, key: string, links: string): boolean {
  interface Expression {
    match?: { left?: { meta?: { key?: string } }; right?: unknown };
  }
  const { nftables }: { nftables: { rule?: { expr: Expression[] } }[] } = JSON.parse(chainJson);
  return nftables.some(({ rule }) =>
    rule?.expr.some(({ match }) => match?.left?.meta?.key === key && match.right === links),
  );
}

/**
 * Lets unprivileged VMMs open their taps, as udev's own rules do (mode 0666): the kernel asks for the tap's owner, and for
 * a privilege to make new ones, so the device itself protects nothing. Hosts without udev leave it to root alone.
 */
export async function openTunDevice(file: string): Promise<void> {
  try {
    const { mode } = await stat(file);
    if ((mode & 0o666) !== 0o666) await chmod(file, 0o666);
  } catch (error) {
    throw new AppError('host_unavailable', `cannot use ${file} for taps: load the kernel module 'tun' as root`, {
      cause: error,
    });
  }
}
