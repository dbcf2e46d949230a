// One server in the grid: its state in form and words, its last hour, its figures.
import { html } from "../html.js";
import { number, word } from "../language.js";
import { addressOf } from "./address.js";
import { lastHour, pathOf } from "./points.js";
import { Sign, stateText } from "./sign.js";
import { PERCENTS } from "./trouble.js";

export function Tile({ server, fleet, hour, seen, which }) {
  const points = lastHour(hour, seen, server.id);
  return html`<li class="server ${server.level}" data-id=${server.id}>
    <h3><${Sign} level=${server.level} /><a href=${addressOf(which, server.id)}>${server.name}</a></h3>
    <p class="server-state">${stateText(server, fleet.at)}</p>
    <${Spark} points=${points} now=${fleet.at} high=${fleet.highPercent} />
    <dl>${PERCENTS.map((name) => html`<div key=${name} class=${server.high.includes(name) ? "is-high" : ""} style=${{ "--share": `${server.metrics[name] ?? 0}%` }}>
      <dt>${word(`metric ${name}`)}</dt><dd>${percentText(server.metrics[name])}</dd></div>`)}</dl>
    ${which === "simulated" && html`<p class="small"><span class="tag">${word("fleet simulatedTag")}</span></p>`}
  </li>`;
}

// The CPU of the last hour, from 0 to 100 percent, with a line where high begins.
export function Spark({ points, now, high }) {
  const values = points.map(([, percent]) => percent), name = word("fleet spark");
  const text = values.length ? word("fleet sparkText", { name, from: percentText(Math.min(...values)), to: percentText(Math.max(...values)) }) : word("fleet sparkNone", { name });
  return html`<svg class="spark" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=${text}>
    <path class="limit" d=${`M0 ${100 - high}h100`} /><path d=${pathOf(points, now)} /></svg>`;
}

export const percentText = (value) => (value === null ? "–" : `${number(Math.round(value))}%`);
