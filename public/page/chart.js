// Figures over time: uPlot draws them; this adds the axis' dates, and values by pointer and keyboard. Several charts of
// the same times share one choice of a time. Of bars also the stacking, the gaps, and the mark of the last one, which is
// part-filled.
import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { clock, date, number, sameDay } from "./language.js";

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7];

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// series: [{ name, counts, paint }], the lowest of a stack first. paint: { fill, stroke }, names of colours.
export function Bars({ series, height, axis, top, ...shared }) {
  const { times, ends } = shared;
  return html`<${Plot} ...${shared} figures=${[series, height, axis]} draw=${(box) => paint(box, { times, ends, series, height, axis, top })} />`;
}

// One chart of the times from times[n] to ends[n], of which one may be chosen. `draw` makes it in a box; it is drawn
// anew with other `figures`, another language, theme or width.
export function Plot({ times, ends, figures, chosen, choose, draw }) {
  const box = useRef(), plot = useRef(), mark = useRef();
  const key = JSON.stringify([times, figures, document.documentElement.lang]);
  useLayoutEffect(() => {
    const anew = () => {
      plot.current?.destroy();
      plot.current = draw(box.current);
      plot.current.over.append(mark.current);
    };
    anew();
    const dark = matchMedia("(prefers-color-scheme: dark)"), seen = new ResizeObserver(() => {
      if (Math.abs(box.current.clientWidth - plot.current.width) > 1) anew();
    });
    dark.addEventListener("change", anew);
    seen.observe(box.current);
    return () => { dark.removeEventListener("change", anew); seen.disconnect(); plot.current.destroy(); };
  }, [key]);
  useEffect(() => {
    const shown = chosen !== null && chosen < times.length;
    mark.current.hidden = !shown;
    if (!shown) return;
    const left = plot.current.valToPos(times[chosen], "x"), right = plot.current.valToPos(ends[chosen], "x");
    Object.assign(mark.current.style, { left: `${left}px`, width: `${right - left}px` });
  });
  const point = (event) => {
    const at = event.clientX - plot.current.over.getBoundingClientRect().left, time = plot.current.posToVal(at, "x");
    const found = times.findLastIndex((each) => each <= time);
    choose(found >= 0 && time < ends.at(-1) ? found : null);
  };
  return html`<div class="chart" ref=${box} onPointerMove=${point} onPointerDown=${point} onPointerLeave=${(event) => event.pointerType === "mouse" && choose(null)}>
    <div class="mark" ref=${mark} hidden></div></div>`;
}

// What makes charts one thing to the keyboard and to a screen reader: arrow keys choose a time, whose values are read out.
export function Choosing({ label, text, count, chosen, choose, children }) {
  const key = (event) => {
    const last = count - 1, at = chosen ?? last + 1;
    const moved = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(last, at + 1), Home: 0, End: last, Escape: null }[event.key];
    if (moved === undefined) return;
    event.preventDefault();
    choose(moved);
  };
  return html`<div class="charts" role="slider" tabindex="0" aria-label=${label} aria-valuemin="0" aria-valuemax=${count - 1}
    aria-valuenow=${chosen ?? count - 1} aria-valuetext=${text} onKeyDown=${key} onBlur=${() => choose(null)}>${children}</div>`;
}

function paint(box, { times, ends, series, height, axis, top }) {
  // Each bar is drawn from the ground, the tallest first, so that a lower one covers what is not its neighbour's.
  const heights = series.map((_, place) => times.map((_, at) => (series[place].counts[at] ? sumTo(series, place, at) : null)));
  const most = Math.max(top ?? 0, ...heights.flat().map((each) => each ?? 0));
  const bars = uPlot.paths.bars({ size: [0.86, 48], align: 1 });
  return new uPlot({
    width: Math.max(120, box.clientWidth), height, padding: [8, 24, axis ? 0 : 4, 0], legend: { show: false }, cursor: { show: false },
    scales: { x: { range: [times[0], ends.at(-1)] }, y: { range: [0, Math.max(2, most * 1.08)] } },
    axes: [
      across(axis),
      { ...axisOf(), size: 46, space: height < 90 ? 18 : 40, incrs: STEPS, grid: { stroke: color("line"), width: 1 }, values: (u, found) => found.map(number) },
    ],
    series: [{}, ...series.toReversed().map(({ paint: { fill, stroke } }) => ({
      fill: color(fill), stroke: color(stroke), width: stroke === "card" ? 2 : 1.5, paths: bars, points: { show: false },
    }))],
    hooks: { drawClear: [(u) => hatch(u, times.at(-1), ends.at(-1))] },
  }, [times, ...heights.toReversed()], box);
}

export const axisOf = () => ({ stroke: color("quiet"), ticks: { show: false }, font: "12px system-ui" });

// The axis of the times.
export function across(show) {
  const values = (u, found) => found.map((at, place) => (startsDay(at, found[place - 1]) ? date(at) : clock(at)));
  return { ...axisOf(), show, size: 26, space: 58, grid: { show: false }, values };
}

const sumTo = (series, place, at) => series.slice(0, place + 1).reduce((sum, each) => sum + (each.counts[at] ?? 0), 0);

// A label is a date where a new day has begun since the label before it, which is always so where labels are days apart.
function startsDay(at, before) {
  return before === undefined ? new Date(at * 1000).getHours() === 0 : !sameDay(at, before);
}

// The last bar is not complete: stripes behind it say so, as the legend does.
function hatch(u, from, to) {
  const { ctx, bbox } = u, left = u.valToPos(from, "x", true), right = u.valToPos(to, "x", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, bbox.top, right - left, bbox.height);
  ctx.clip();
  ctx.strokeStyle = color("stripe");
  ctx.lineWidth = devicePixelRatio;
  for (let x = left - bbox.height; x < right; x += 6 * devicePixelRatio) {
    ctx.beginPath();
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x + bbox.height, bbox.top);
    ctx.stroke();
  }
  ctx.restore();
}
