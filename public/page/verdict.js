// How it is going, from the overview alone: a level, and the reasons for it, worst first. Pure.
// A reason is a name of the words ("why ...") with its values; times are still in seconds.

export const LEVELS = ["fine", "short", "degraded", "down"];
const LEAST_REQUESTS = 50, TOLERATED = 0.01; // as the alert on errors

export function verdict(data, now) {
  const found = [...circuits(data, now), ...stores(data), ...errors(data), ...allowances(data, now), ...saving(data)];
  const level = LEVELS[Math.max(0, ...found.map((each) => LEVELS.indexOf(each.level)))];
  return { level, reasons: found.length ? found : [calm(data)] };
}

function circuits(data, now) {
  const open = data.circuits.filter((each) => each.state === "open" && each.until > now);
  const checked = data.circuits.filter((each) => each.state === "suspect" || each.state === "probing" || (each.state === "open" && each.until <= now));
  const found = [];
  if (open.length && open.length === data.circuits.length) {
    found.push({ level: "down", why: "allResting", values: { when: Math.min(...open.map((each) => each.until)) } });
  } else {
    for (const [until, names] of grouped(open)) found.push({ level: "degraded", why: "resting", values: { names, when: until } });
  }
  if (checked.length) found.push({ level: "short", why: "checking", values: { names: checked.map((each) => each.provider) } });
  return found;
}

// By the minute in which they may be called again, for that is what is shown.
function grouped(open) {
  const by = new Map();
  for (const each of open) {
    const minute = Math.floor(each.until / 60) * 60;
    by.set(minute, [...(by.get(minute) ?? []), each.provider]);
  }
  return [...by].sort(([a], [b]) => a - b);
}

function stores(data) {
  if (data.source !== "redis") return [{ level: "degraded", why: "redisAway", values: { mode: data.mode } }];
  if (data.thrift === 3 && data.mode !== "redis") return [{ level: "degraded", why: "redisSaved", values: { mode: data.mode } }];
  return data.mode === "redis" || data.mode === "off" ? [] : [{ level: "degraded", why: "counted", values: { mode: data.mode } }];
}

const total = (slices, names) => slices.reduce((sum, each) => sum + names.reduce((all, name) => all + each[name], 0), 0);

function errors(data) {
  const share = data.errorRate.hour;
  if (share === null || share <= TOLERATED || total(data.hour, ["serve", "compute", "fail"]) < LEAST_REQUESTS) return [];
  return [{ level: share > 0.5 ? "down" : "degraded", why: "failed", values: { share } }];
}

function allowances(data, now) {
  return data.allowances.filter((each) => each.left === 0 || each.runsOutAt !== null).map((each) => {
    const values = { service: each.service, unit: each.unit, when: each.left === 0 ? each.resetsAt : each.runsOutAt };
    if (each.left === 0) return { level: "degraded", why: each.resetsAt ? "usedUp" : "usedUpOnce", values };
    const early = each.resetsAt && each.resetsAt > each.runsOutAt && each.resetsAt > now;
    return early ? { level: "short", why: "ends", values: { ...values, span: each.resetsAt - each.runsOutAt } } : { level: "short", why: "endsOnce", values };
  });
}

function saving(data) {
  return data.thrift === 1 || data.thrift === 2 ? [{ level: "short", why: "saving", values: { step: data.thrift } }] : [];
}

function calm(data) {
  const count = total(data.hour, ["serve", "compute", "refuse", "fail"]);
  if (count) return { level: "fine", why: "requests", values: { count, cached: data.hitRate.hour ?? 0 } };
  const any = total(data.day, ["serve", "compute", "refuse", "fail"]) || data.latency.request.p50 !== null;
  return { level: "fine", why: any ? "quiet" : "nothing", values: {} };
}
