// Counts over time as the charts take them: { times, ends, series: [{ name, counts }] }, in seconds. Pure.

export const OUTCOMES = ["serve", "compute", "refuse", "fail"];

// The overview's own slices.
export function ofSlices(slices, step) {
  return ofParts(slices, step, OUTCOMES.map((name) => ({ name, counts: slices.map((each) => each[name]) })));
}

// The same slices, each `step` seconds long, by something else.
export function ofParts(slices, step, series) {
  const times = slices.map((each) => each.at);
  return { times, ends: times.map((at) => at + step), series };
}

// Hours put together to `hours` of the reader's own days; what began before the reading is left out.
export function regroup({ from, step, series }, hours) {
  const starts = series[0]?.counts.map((_, at) => from + at * step) ?? [];
  const blocks = new Map();
  starts.forEach((at, index) => {
    const start = blockOf(at, hours);
    if (start >= from) blocks.set(start, [...(blocks.get(start) ?? []), index]);
  });
  const times = [...blocks.keys()];
  return {
    times, ends: times.map((at) => blockOf(at, hours, hours)),
    series: series.map(({ name, counts }) => ({ name, counts: [...blocks.values()].map((block) => block.reduce((sum, index) => sum + counts[index], 0)) })),
  };
}

// When the block of a time begins, or the one `later` hours after it by the clock: days of 23 and 25 hours are days too.
function blockOf(seconds, hours, later = 0) {
  const at = new Date(seconds * 1000);
  return new Date(at.getFullYear(), at.getMonth(), at.getDate(), Math.floor(at.getHours() / hours) * hours + later).getTime() / 1000;
}

export const sum = (counts) => counts.reduce((all, each) => all + (each ?? 0), 0);
