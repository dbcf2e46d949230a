// One server: how it is, and what was recorded of it.
import { figures, worded } from "../api.js";
import { Choosing } from "../chart.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { clock, date, moment, number, sameDay, word, zone } from "../language.js";
import { Line } from "../line.js";
import { Picks } from "../picks.js";
import { usePolling } from "../polling.js";
import { addressOf } from "./address.js";
import { lastHour, RANGES, series } from "./points.js";
import { Sign, stateText } from "./sign.js";
import { percentText, Spark } from "./tile.js";
import { PERCENTS } from "./trouble.js";

const METRICS = [...PERCENTS, "network"], HISTORY_EVERY_S = 300;

export function Server({ id, token, refused, fleet, hour, seen, which }) {
  const server = fleet.servers.find((each) => each.id === id), title = useRef();
  useEffect(() => title.current.focus(), []);
  return html`<section class="card server-page ${server?.level ?? ""}" aria-labelledby="server-title">
    <p><a class="back" href=${addressOf(which)}>← ${word("fleet all")}</a></p>
    <h2 id="server-title" ref=${title} tabindex="-1">${server && html`<${Sign} level=${server.level} />`}${server?.name ?? id}${which === "simulated" && html`<span class="tag">${word("fleet simulatedTag")}</span>`}</h2>
    ${!server ? html`<p>${word("fleet unknownServer", { id })}</p>` : html`<p class="server-state">${stateText(server, fleet.at)}</p>
      <${Facts} server=${server} />
      <h3>${word("fleet spark")}</h3>
      <${Spark} points=${lastHour(hour, seen, id)} now=${fleet.at} high=${fleet.highPercent} />`}
    ${which === "simulated" ? html`<p class="small">${word("fleet noSimulatedHistory")}</p>` : html`<${History} id=${id} token=${token} refused=${refused} />`}
  </section>`;
}

function Facts({ server }) {
  const facts = [
    ...METRICS.map((name) => [word(`metric ${name}`), valueText(name, server.metrics[name]), server.high.includes(name)]),
    [word("fleet measured"), moment(server.at)], [word("fleet reporter"), server.reporter], [word("fleet id"), server.id],
  ];
  return html`<dl class="facts">${facts.map(([name, value, high]) => html`<div key=${name} class=${high ? "is-high" : ""}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const valueText = (name, value) => (value === null ? word("fleet notMeasured") : name === "network" ? word("fleet mbit", { value }) : percentText(value));

function History({ id, token, refused }) {
  const [range, pick] = useState("24h");
  const { value, error } = usePolling(async () => ({ points: await figures(`/api/servers/${encodeURIComponent(id)}/history`, token, { range }), at: Date.now() / 1000 }),
    { key: range, everyS: HISTORY_EVERY_S, freshS: HISTORY_EVERY_S, refused });
  return html`<h3>${word("fleet history")}</h3>
    <div class="picks"><${Picks} name="range" values=${Object.keys(RANGES)} value=${range} pick=${pick} /></div>
    ${error && html`<p class="trouble" role="alert">${word("historyFailed", { why: worded(error) })}</p>`}
    ${value ? value.points.length ? html`<${Charts} key=${range} range=${range} ...${value} />` : html`<p>${word("fleet nothingRecorded")}</p>`
      : !error && html`<p role="status">${word("loading")}</p>`}`;
}

function Charts({ points, range, at }) {
  const [chosen, choose] = useState(null), { times, ends, values } = series(points, range, at, METRICS);
  const texts = (place) => METRICS.map((name) => `${word(`metric ${name}`)} ${values[name][place] === null ? "–" : valueText(name, values[name][place])}`).join(" · ");
  const last = times.findLastIndex((_, place) => METRICS.some((name) => values[name][place] !== null)), shown = chosen ?? Math.max(0, last);
  const text = `${timeText(times[shown], range)}: ${texts(shown)}`;
  return html`<p class="small">${word(`fleet per ${range}`)} ${word("zone", { zone: zone() })}</p>
    <p class="readout" aria-hidden="true">${text}</p>
    <${Choosing} label=${word("choose", { what: word("fleet history") })} text=${text} count=${times.length} chosen=${chosen} choose=${choose}>
      ${METRICS.map((name, place) => html`<h3 class="strip-title" key=${name}>${word(`metric ${name}`)} <span>${word("fleet most", { value: mostText(name, values[name]) })}</span></h3>
        <${Line} key=${`line ${name}`} times=${times} ends=${ends} values=${values[name]} worded=${number} top=${name === "network" ? 1 : 100} axis=${place === METRICS.length - 1} chosen=${chosen} choose=${choose} />`)}
    <//>
    <p class="small">${word("fleet chartHint")}</p>
    <${Table} times=${times} values=${values} range=${range} />`;
}

function mostText(name, values) {
  const known = values.filter((each) => each !== null);
  return known.length ? valueText(name, Math.max(...known)) : "–";
}

const timeText = (at, range) => (range === "1h" || (range === "24h" && sameDay(at, Date.now() / 1000)) ? clock(at) : `${date(at)} ${clock(at)}`);

// Only what was recorded, newest first; drawn when it is opened.
function Table({ times, values, range }) {
  const [open, turn] = useState(false), rows = times.map((_, at) => at).filter((at) => METRICS.some((name) => values[name][at] !== null)).reverse();
  return html`<details onToggle=${(event) => turn(event.target.open)}><summary>${word("asTable")}</summary>
    ${open && html`<div class="scroll tall" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("fleet history") })}><table class="full">
      <thead><tr><th scope="col">${word("time")}</th>${METRICS.map((name) => html`<th scope="col" key=${name}>${word(`metric ${name}`)}${name === "network" ? " (Mbit/s)" : ""}</th>`)}</tr></thead>
      <tbody>${rows.map((at) => html`<tr key=${times[at]}><th scope="row">${timeText(times[at], range)}</th>${METRICS.map((name) => html`<td key=${name}>${values[name][at] === null ? "–" : name === "network" ? number(values[name][at]) : percentText(values[name][at])}</td>`)}</tr>`)}</tbody>
    </table></div>`}</details>`;
}
