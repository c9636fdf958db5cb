// Which addresses belong to the public Internet, and which URLs may be requested on behalf of somebody outside.

import ipaddr from 'ipaddr.js';
import { MAX_URL_CHARS } from './limits-outside.ts';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** All of IPv6 that is unicast for everybody: IANA, IPv6 Global Unicast Address Assignments. */
const GLOBAL_UNICAST: [Address, number] = ipaddr.parseCIDR('2000::/3');

// What ipaddr.js 2.5.0 takes for unicast beside what is outside 2000::/3.
const NOT_PUBLIC: readonly [Address, number][] = [
  // 6bone, given back in 2006 (RFC 3701).
  ipaddr.parseCIDR('3ffe::/16'),
  // Azure's platform channel: a public address that every virtual machine there reaches.
  ipaddr.parseCIDR('168.63.129.16/32'),
];

/**
 * Whether an address, as DNS or a URL writes it, is on the public Internet. An IPv4 address mapped into IPv6 counts as
 * itself; whatever else embeds one (NAT64, 6to4, Teredo) is refused, since it depends on the network where it leads.
 */
export function isPublicAddress(text: string): boolean {
  const address = parseAddress(text);
  if (address?.range() !== 'unicast') return false;
  if (address instanceof ipaddr.IPv6 && !address.match(GLOBAL_UNICAST)) return false;
  return !NOT_PUBLIC.some((range) => range[0].kind() === address.kind() && address.match(range));
}

function parseAddress(text: string): Address | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  // The library reads `::10.0.0.1` as a mapped address, which it is not: the URL parser says what it is.
  const url = text.includes(':') ? parseUrl(`http://[${text}]`) : undefined;
  if (url === undefined) return undefined;
  const address = ipaddr.IPv6.parse(url.hostname.slice(1, -1));
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

/** What is wrong with a URL that somebody outside chose, whatever its host; undefined where nothing is. */
export function urlFault(text: string): string | undefined {
  if (text.length > MAX_URL_CHARS) return `has ${String(text.length)} characters; at most ${String(MAX_URL_CHARS)}`;
  const url = parseUrl(text);
  if (url === undefined) return 'is not a URL';
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'must be http or https';
  if (url.username !== '' || url.password !== '') return 'must not have a user name or password in it';
  return undefined;
}

/** `resolve`: every address that `name` has must be public, too. */
export type Destination =
  | { readonly kind: 'allowed'; readonly url: URL }
  | { readonly kind: 'resolve'; readonly url: URL; readonly name: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Whether a URL may be requested. `exempt`: hosts, as {@link parseHosts} reads them, that may be anywhere. */
export function destinationOf(text: string, exempt: ReadonlySet<string>): Destination {
  const fault = urlFault(text);
  const url = parseUrl(text);
  if (url === undefined || fault !== undefined) return { kind: 'refused', reason: `the URL ${fault ?? ''}` };
  const port = url.port === '' ? DEFAULT_PORTS[url.protocol === 'https:' ? 'https:' : 'http:'] : url.port;
  if (exempt.has(url.hostname) || exempt.has(`${url.hostname}:${port}`)) return { kind: 'allowed', url };
  return destinationOfHost(url);
}

const DEFAULT_PORTS = { 'http:': '80', 'https:': '443' };

/** Hosts from a comma-separated setting: `host` for every port of it, or `host:port`. */
export function parseHosts(setting: string): ReadonlySet<string> {
  const hosts = setting.split(',').map((host) => host.trim().toLowerCase());
  return new Set(hosts.filter((host) => host !== ''));
}

// As the URL parser writes them: 0x7f.1 and 2130706433 have become 127.0.0.1 by then.
const IPV4 = /^\d+\.\d+\.\d+\.\d+$/;

function destinationOfHost(url: URL): Destination {
  const { hostname } = url;
  if (hostname.startsWith('[') || IPV4.test(hostname)) {
    const address = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
    if (isPublicAddress(address)) return { kind: 'allowed', url };
    return { kind: 'refused', reason: 'its address is not public' };
  }
  const name = hostname.replace(/\.$/, '');
  if (isPublicName(name)) return { kind: 'resolve', url, name };
  return { kind: 'refused', reason: 'its host is not a public name' };
}

// Names that no public resolver may answer (RFC 6761, 6762, 8375, ICANN's .internal), and those private networks use.
const PRIVATE_NAMES = ['localhost', 'local', 'internal', 'home.arpa', 'localdomain', 'lan', 'intranet'];

function isPublicName(name: string): boolean {
  if (!name.includes('.') || name.split('.').includes('')) return false;
  return !PRIVATE_NAMES.some((ending) => name === ending || name.endsWith(`.${ending}`));
}

function parseUrl(text: string): URL | undefined {
  return URL.parse(text) ?? undefined;
}
