import {
  gatewayAddress,
  guestAddress,
  guestMac,
  linkNetwork,
  type SlotAddress,
  slotNamePrefix,
  tapName,
  uplinkName,
} from './slot-address.ts';

/**
 * Where no guest may go: "this" network, private and shared ranges, loopback, link-local (metadata services), protocol
 * assignments, the platform address of one large cloud, benchmarking, multicast, reserved and broadcast.
 */
const forbiddenDestinations = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
] as const;

/** New connections beyond this many open ones of a guest are dropped: one guest must not fill the host's connection table. */
const maxGuestConnections = 4_096;

const forbiddenSet = `set forbidden {
    type ipv4_addr
    flags interval
    elements = { ${forbiddenDestinations.join(', ')} }
  }`;

/**
 * The rules inside one slot's namespace, as one nft transaction. What no rule accepts is dropped. The chain `egress` is
 * where a sandbox's own lists go: it is asked for every new connection to the internet and lets everything pass while empty.
 * Forbidden destinations are refused rather than ignored, so that a program that looks for a metadata service learns at
 * once; TCP by a reset, because the kernel limits how many ICMP errors it sends. The guest sees the gateway's address alone, of all that the host and the
 * slot have: as the source of the host agent's connections and of routers' errors, and in answer to ARP. So it does not learn which slot it is in.
 */
export function slotRules(slot: SlotAddress): string {
  return `table inet aviary {
  ${forbiddenSet}
  chain egress { }
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    meta nfproto ipv6 counter drop
    iifname "${tapName}" ether saddr != ${guestMac} counter drop
    iifname "${tapName}" ip saddr != ${guestAddress} counter drop
  }
  chain input { type filter hook input priority filter; policy drop; iifname "lo" accept; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid counter drop
    ct state established,related accept
    iifname "${uplinkName}" oifname "${tapName}" ip saddr ${slot.vethHostAddress} ct status dnat ct state new accept
    iifname "${tapName}" oifname "${uplinkName}" goto outgoing
  }
  chain outgoing {
    ip daddr @forbidden counter goto refuse
    ct count over ${maxGuestConnections} counter drop
    jump egress
    accept
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain output { type filter hook output priority filter; policy accept; meta nfproto ipv6 drop; }
  chain nat_in {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${uplinkName}" ip saddr ${slot.vethHostAddress} ip daddr ${slot.hostAddress} dnat ip to ${guestAddress}
  }
  chain nat_out {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${uplinkName}" ip saddr ${guestAddress} snat ip to ${slot.vethSlotAddress}
    oifname "${tapName}" ip saddr ${linkNetwork} snat ip to ${gatewayAddress}
  }
  chain to_guest {
    type filter hook postrouting priority mangle; policy accept;
    oifname "${tapName}" ip saddr ${linkNetwork} meta l4proto icmp ip saddr set ${gatewayAddress}
  }
}
table arp aviary {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${tapName}" arp daddr ip != ${gatewayAddress} drop
  }
}
`;
}

/** The host's table for the slots of `prefix`: `aviary`, or one beside it for another prefix. */
export function hostTable(prefix: string): string {
  return prefix === 'avy' ? 'aviary' : `aviary_${prefix}`;
}

/**
 * The rules that all slots share on the host, as one nft transaction that replaces what was there: address translation to
 * the internet, and the second fence behind each slot's own. They match links by name, so no slot ever changes them.
 */
export function hostRules(prefix: string): string {
  const links = `"${slotNamePrefix(prefix)}*"`;
  const table = `inet ${hostTable(prefix)}`;
  return `table ${table} { }
delete table ${table}
table ${table} {
  ${forbiddenSet}
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname ${links} meta nfproto ipv6 counter drop
    iifname ${links} fib saddr . iif oif missing counter drop
  }
  chain input {
    type filter hook input priority filter - 5; policy accept;
    iifname ${links} ct state established,related accept
    iifname ${links} counter drop
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    iifname ${links} oifname ${links} counter drop
    iifname ${links} ip daddr @forbidden counter drop
    iifname ${links} accept
    oifname ${links} ct state established,related accept
    oifname ${links} counter drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${linkNetwork} oifname != ${links} masquerade
  }
}
`;
}

/** The guest's own subnet on the tap, for `ip addr`. */
export const gatewaySubnet = `${gatewayAddress}/30`;
