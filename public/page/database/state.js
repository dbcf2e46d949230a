// How a database is doing, from one reading: a level, and the reasons for it, worst first. Pure.
// A reason is a name of the words ("db why ...") with its values; lengths of time are in seconds.
import { LEVELS } from "../verdict.js";

// As the alerts (lib/databases/noticing.py).
export const LONG_WAIT_S = 30;
// Shorter waits are everyday.
const SHORT_WAIT_S = 5;
const NEAR_FULL = 0.9;
const LONG_TRANSACTION_S = 300;

// `connection` is the row of the connection, or undefined; `views` as reading.js has them.
export function stateOf(connection, views) {
  const found = [...away(connection, views), ...blocked(views.locks.value), ...full(views.realtime.value), ...forgotten(views.realtime.value), ...limited(connection)];
  found.sort((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level));
  return found.length ? { level: found[0].level, reasons: found } : calm(views.realtime.value);
}

function away(connection, { realtime }) {
  if (connection?.health === "down") return [{ level: "down", why: realtime.value ? "kept" : "down", values: { reason: connection.reason } }];
  return realtime.error ? [{ level: "down", why: "unread", values: { code: realtime.error.code } }] : [];
}

function blocked(locks) {
  if (!locks?.waiting) return [];
  const worst = locks.blockers.map((each) => ({ pid: each.pid, application: each.application, seconds: longest(each) })).sort((a, b) => b.seconds - a.seconds)[0];
  return [{ level: worst.seconds > LONG_WAIT_S ? "degraded" : worst.seconds > SHORT_WAIT_S ? "short" : "fine", why: "blocked", values: { count: locks.waiting, ...worst } }];
}

// How long somebody has waited below a session that blocks others, at most.
export const longest = (node) => Math.max(node.waitingS ?? 0, ...node.blocks.map(longest));

function full(realtime) {
  const { sessions, mostSessions } = realtime ?? {};
  return mostSessions && sessions >= mostSessions * NEAR_FULL ? [{ level: "degraded", why: "full", values: { used: sessions, most: mostSessions } }] : [];
}

function forgotten(realtime) {
  const seconds = realtime?.longestTransactionS ?? 0;
  return seconds >= LONG_TRANSACTION_S ? [{ level: "short", why: "open", values: { seconds } }] : [];
}

function limited(connection) {
  return connection?.health === "limited" ? [{ level: "short", why: "limited", values: {} }] : [];
}

// Whether a role does not see what others do, so that nobody can say that nothing is there.
export const isBlind = (views) => Boolean(views.realtime.value?.missing?.length);

function calm(realtime) {
  if (!realtime) return { level: "unknown", reasons: [] };
  return { level: "fine", reasons: [{ level: "fine", why: "calm", values: { count: realtime.sessions, active: realtime.active } }] };
}

// Which sessions are shown first: those that wait, that work, that keep a transaction open, and the rest; each the longest first.
export function ordered(sessions) {
  const lasts = (each) => (isActive(each) ? each.statementS : each.transactionS) ?? 0;
  return sessions.toSorted((a, b) => rank(a) - rank(b) || lasts(b) - lasts(a) || a.pid - b.pid);
}

const rank = (each) => (each.blockedBy.length ? 0 : isActive(each) ? 1 : isOpen(each) ? 2 : 3);
const isActive = (each) => each.state?.toLowerCase() === "active";
const isOpen = (each) => each.state?.startsWith("idle in transaction") ?? false;

// By how they are filtered: everything; what is not just connected; what waits for somebody; what keeps a transaction open.
export const FILTERS = {
  busy: (each) => rank(each) < 3, waiting: (each) => each.blockedBy.length > 0, open: isOpen, all: () => true,
};

// The oldest of what is shown, in seconds since 1970; null where nothing is.
export function oldest(views) {
  const times = Object.values(views).map(({ value }) => value?.at).filter(Number.isFinite);
  return times.length ? Math.min(...times) : null;
}

// Whether a plan can be fetched: for one query, whose values have not been left out.
export function hasPlan(text, kind) {
  return ["postgres", "neon"].includes(kind) && /^\s*(select|with|values|table)\b/i.test(text) && !/\?|\$\d/.test(text);
}
