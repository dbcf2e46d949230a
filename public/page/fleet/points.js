// Points over time: what a tile's line and a server's charts are drawn from. Times are Unix seconds. Pure.

const HOUR_S = 3600;
const MOST_SEEN = 120;

// What this tab has seen of each server, newer readings added: id -> [[at, cpu], ...], of the last hour.
export function seenAlso(seen, servers, now) {
  return Object.fromEntries(servers.map(({ id, at, metrics }) => {
    const before = (seen[id] ?? []).filter(([time]) => time > now - HOUR_S && time < at);
    return [id, [...before, [at, metrics.cpu]].slice(-MOST_SEEN)];
  }));
}

// A server's last hour: what was recorded (each step in its middle), then what was seen since. Without records what was seen.
// The middle of the step that has only begun lies ahead: what was seen stands for it.
export function lastHour(hour, seen, id) {
  const last = seen[id]?.at(-1)?.[0] ?? Infinity;
  const steps = (hour?.cpu[id] ?? []).map((cpu, step) => [hour.at + (step + 0.5) * hour.step, cpu]);
  const recorded = steps.filter(([at, cpu]) => cpu !== null && at <= last);
  const end = recorded.at(-1)?.[0] ?? 0;
  return [...recorded, ...(seen[id] ?? []).filter(([at, cpu]) => at > end && cpu !== null)];
}

// The line as an SVG path in a field of 100 by 100, from `now` an hour back and from 0 to 100 percent. Points more than
// `gapS` apart are not joined; one that stands alone is a dot.
export function pathOf(points, now, gapS = 450) {
  const shown = points.filter(([at]) => at >= now - HOUR_S && at <= now + 60);
  return shown.map(([at, percent], place) => {
    const x = Math.min(100, 100 + ((at - now) / HOUR_S) * 100).toFixed(1), y = (100 - percent).toFixed(1);
    const joined = place > 0 && at - shown[place - 1][0] <= gapS, next = shown[place + 1];
    if (joined) return `L${x} ${y}`;
    return next && next[0] - at <= gapS ? `M${x} ${y}` : `M${x} ${y}h.01`;
  }).join("");
}

// How long a range and a step of it are. Of 90 days, which are recorded by hour, means of six hours are shown.
export const RANGES = {
  "1h": { lengthS: HOUR_S, shownS: 300 }, "24h": { lengthS: 86_400, shownS: 300 },
  "7d": { lengthS: 7 * 86_400, shownS: 3600 }, "90d": { lengthS: 90 * 86_400, shownS: 21_600 },
};

// Recorded points as the charts take them, as many steps as the range has, up to the one that runs; null where nothing
// was recorded.
export function series(points, range, now, names) {
  const { lengthS, shownS } = RANGES[range], last = Math.floor(now / shownS), count = lengthS / shownS;
  const times = Array.from({ length: count }, (_, place) => (last - count + 1 + place) * shownS);
  const by = new Map(times.map((at) => [at, []]));
  for (const point of points) by.get(Math.floor(point.at / shownS) * shownS)?.push(point);
  const values = (name) => times.map((at) => mean(by.get(at).map((each) => each[name]).filter((each) => each !== null)));
  return { times, ends: times.map((at) => at + shownS), values: Object.fromEntries(names.map((name) => [name, values(name)])) };
}

const mean = (numbers) => (numbers.length ? Math.round((numbers.reduce((sum, each) => sum + each, 0) / numbers.length) * 100) / 100 : null);
