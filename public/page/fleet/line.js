// One metric over time as a line, broken where nothing was recorded.
import { across, axisOf, color, Plot } from "../chart.js";
import { html } from "../html.js";
import { number } from "../language.js";

// values: percents (drawn from 0 to 100), or any amounts from 0 on; null where nothing was recorded.
export function Line({ times, ends, values, percent, axis, chosen, choose }) {
  const draw = (box) => paint(box, { times, end: ends.at(-1), values, percent, axis });
  return html`<${Plot} times=${times} ends=${ends} figures=${[values, axis]} chosen=${chosen} choose=${choose} draw=${draw} />`;
}

function paint(box, { times, end, values, percent, axis }) {
  const top = percent ? 100 : Math.max(1, ...values.map((each) => each ?? 0)) * 1.1;
  return new uPlot({
    width: Math.max(120, box.clientWidth), height: axis ? 106 : 80, padding: [8, 24, axis ? 0 : 4, 0], legend: { show: false }, cursor: { show: false },
    scales: { x: { range: [times[0], end] }, y: { range: [0, top] } },
    axes: [
      across(axis),
      { ...axisOf(), size: 46, space: 24, ...(percent ? { splits: () => [0, 50, 100] } : {}), grid: { stroke: color("line"), width: 1 }, values: (u, found) => found.map(number) },
    ],
    series: [{}, { stroke: color("serve"), width: 2, spanGaps: false, points: { show: true, filter: () => lonely(values), size: 5, stroke: color("serve"), fill: color("serve") } }],
  }, [times, values], box);
}

// A line shows nothing of a point that has no neighbour.
const lonely = (values) => values.flatMap((each, at) => (each !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));
