// A line over time, in steps: each value holds from its time to its end. It is broken where there is none (null).
import { across, axisOf, color, Plot } from "./chart.js";
import { html } from "./html.js";

const HEIGHT = 66, WITH_AXIS = 88;

// `worded`: how a value is written beside the line. `top`: the least height of the scale.
export function Line({ values, worded, top, axis, ...shared }) {
  const { times, ends } = shared;
  return html`<${Plot} ...${shared} figures=${[values, axis]} draw=${(box) => paint(box, { times, ends, values, worded, top, axis })} />`;
}

function paint(box, { times, ends, values, worded, top, axis }) {
  const most = Math.max(top, ...values.map((each) => each ?? 0)) || 1;
  return new uPlot({
    width: Math.max(120, box.clientWidth), height: axis ? WITH_AXIS : HEIGHT, padding: [8, 24, axis ? 0 : 4, 0], legend: { show: false }, cursor: { show: false },
    scales: { x: { range: [times[0], ends.at(-1)] }, y: { range: [0, most * 1.08] } },
    axes: [
      across(axis),
      { ...axisOf(), size: 56, space: 22, grid: { stroke: color("line"), width: 1 }, values: (u, found) => found.map(worded) },
    ],
    series: [{}, { stroke: color("serve"), fill: color("stripe"), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
  }, [[...times, ends.at(-1)], [...values, values.at(-1)]], box);
}
