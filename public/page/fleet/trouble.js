// Which servers are in trouble, worst first, and which of them are looked for. Pure.

export const LEVELS = ["silent", "high", "late", "online"]; // worst first
export const PERCENTS = ["cpu", "memory", "disk"];

const NAMES = new Intl.Collator("en", { numeric: true });

// A server with its level, the metrics that are high, and the highest of them in percent (null: none was measured).
function judged(server, highPercent) {
  const known = PERCENTS.filter((name) => server.metrics[name] !== null);
  const high = known.filter((name) => server.metrics[name] > highPercent);
  const level = server.status === "silent" ? "silent" : high.length ? "high" : server.status;
  const most = known.length ? Math.max(...known.map((name) => server.metrics[name])) : null;
  return { ...server, level, high, most, at: Date.parse(server.lastUpdated) / 1000 };
}

// All servers, worst first: by level; of one level who fell silent last or has the highest figure; then by name.
export function ranked(servers, highPercent) {
  return servers.map((each) => judged(each, highPercent)).sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level)
    || (a.level === "silent" || a.level === "late" ? b.at - a.at : (b.most ?? -1) - (a.most ?? -1))
    || NAMES.compare(a.name, b.name) || NAMES.compare(a.id, b.id));
}

export function counts(servers) {
  return Object.fromEntries(LEVELS.map((level) => [level, servers.filter((each) => each.level === level).length]));
}

// Those of a level ("all": of any) whose name, id or reporter has every word of the text.
export function sought(servers, level, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return servers.filter((each) => (level === "all" || each.level === level)
    && words.every((part) => `${each.name} ${each.id} ${each.reporter}`.toLowerCase().includes(part)));
}
