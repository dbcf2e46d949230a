// Requests over time: by outcome as a stack with a strip for failures, else a strip for each status, route or provider.
import { Bars, Choosing } from "../chart.js";
import { html, useState } from "../html.js";
import { clock, date, has, number, sameDay, word, zone } from "../language.js";
import { Picks } from "../picks.js";
import { ofParts, ofSlices, OUTCOMES, regroup, sum } from "../series.js";
import { curl } from "./about.js";

export const RANGES = ["1h", "24h", "7d", "30d"], BY = ["outcome", "status", "route", "provider"];
const PAINT = {
  serve: { fill: "serve", stroke: "card" }, compute: { fill: "compute", stroke: "card" },
  refuse: { fill: "card", stroke: "refuse" }, fail: { fill: "fail", stroke: "card" }, any: { fill: "serve", stroke: "card" },
};

// What is shown of the overview, or of a history that was asked for; null while it is on its way.
function shownOf({ data, history, range, by }) {
  if (range === "1h") return by === "outcome" ? ofSlices(data.hour, 300) : ofParts(data.hour, 300, data.hourBy[by]);
  if (range === "24h") return by === "outcome" ? ofSlices(data.day, 3600) : ofParts(data.day, 3600, data.dayBy[by]);
  return history ? regroup(history, range === "7d" ? 6 : 24) : null;
}

export const nameOf = (name) => (has(`status ${name}`) ? word(`status ${name}`) : OUTCOMES.includes(name) || name === "other" ? word(name) : name);

export function Traffic({ state: { data, history, historyTrouble, range, by }, pick }) {
  const shown = shownOf({ data, history, range, by });
  return html`<section class="card wide" aria-labelledby="traffic-title">
    <h2 id="traffic-title">${word("traffic")}</h2>
    <div class="picks">
      <${Picks} name="range" values=${RANGES} value=${range} pick=${(value) => pick({ range: value, by })} />
      <${Picks} name="by" values=${BY} value=${by} pick=${(value) => pick({ range, by: value })} />
    </div>
    ${historyTrouble && range !== "1h" && range !== "24h" ? html`<p class="trouble" role="alert">${word("historyFailed", { why: historyTrouble })}</p>`
      : shown ? html`<${Shown} key=${range + by} shown=${shown} range=${range} by=${by} unknown=${data.source === "instance"} />` : html`<p role="status">${word("loading")}</p>`}
  </section>`;
}

function Shown({ shown, range, by, unknown }) {
  const [chosen, choose] = useState(null), { times, ends, series } = shown;
  const rows = series.filter((each) => by === "outcome" || by === "provider" || sum(each.counts));
  if (!series.some((each) => sum(each.counts))) return unknown ? html`<p>${word("unknownNow")}</p>` : html`<p>${word("noTraffic")}</p><pre tabindex="0" role="region" aria-label="curl"><code>${curl()}</code></pre>`;
  const values = (at) => rows.map((each) => `${nameOf(each.name)} ${number(each.counts[at])}`).join(" · ");
  const sums = rows.map((each) => `${nameOf(each.name)} ${number(sum(each.counts))}`).join(" · ");
  const text = chosen === null ? word("sums", { range: word(`range ${range}`), values: sums }) : `${between(times[chosen], ends[chosen])}: ${values(chosen)}${chosen === times.length - 1 ? ` (${word("soFar")})` : ""}`;
  const common = { times, ends, chosen, choose };
  return html`<p class="small">${word(`per ${range}`)}. ${word("zone", { zone: zone() })}</p>
    <p class="readout" aria-hidden="true">${text}</p>
    <${Choosing} label=${word("choose", { what: word("traffic") })} text=${text} count=${times.length} chosen=${chosen} choose=${choose}>
      ${by === "outcome" ? html`<${Outcomes} rows=${rows} common=${common} />` : html`<${Strips} rows=${rows} common=${common} />`}
    <//>
    <p class="small">${word("hint")}</p>
    <${Table} shown=${shown} rows=${rows} />`;
}

function Outcomes({ rows, common }) {
  const stack = OUTCOMES.slice(0, 3), of = (name) => ({ ...rows.find((each) => each.name === name), paint: PAINT[name] });
  return html`<h3 class="strip-title">${word("answered")}</h3>
    <p class="small">${word("refusedIs")}</p>
    <${Legend} names=${stack} />
    <${Bars} ...${common} series=${stack.map(of)} height=${190} axis=${false} />
    <h3 class="strip-title ${sum(of("fail").counts) ? "failed" : ""}">${word("failedStrip")} <span>${number(sum(of("fail").counts))}</span></h3>
    <${Bars} ...${common} series=${[of("fail")]} height=${88} axis=${true} />`;
}

function Strips({ rows, common }) {
  const top = Math.max(...rows.flatMap((each) => each.counts));
  return rows.map((each, place) => html`<h3 class="strip-title ${each.name === "5xx" ? "failed" : ""}" key=${each.name}>${nameOf(each.name)} <span>${number(sum(each.counts))}</span></h3>
    <${Bars} key=${`bars ${each.name}`} ...${common} series=${[{ ...each, paint: each.name === "5xx" ? PAINT.fail : PAINT.any }]} top=${top}
      height=${place === rows.length - 1 ? 88 : 62} axis=${place === rows.length - 1} />`).concat(html`<${Legend} names=${[]} />`);
}

function Legend({ names }) {
  return html`<ul class="legend">${[...names, "soFar"].map((name) => html`<li key=${name}><span class="key ${name}" aria-hidden="true"></span>${word(name)}</li>`)}</ul>`;
}

function between(from, to) {
  const whole = to - from > 80_000;
  if (whole) return date(from);
  const day = sameDay(from, Date.now() / 1000) ? "" : `${date(from)} `;
  return `${day}${clock(from)}–${clock(to)}`;
}

function Table({ shown: { times, ends }, rows }) {
  const order = times.map((_, at) => times.length - 1 - at);
  return html`<details><summary>${word("asTable")}</summary><div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("traffic") })}><table>
    <thead><tr><th scope="col">${word("time")}</th>${rows.map((each) => html`<th scope="col" key=${each.name}>${nameOf(each.name)}</th>`)}<th scope="col">${word("total")}</th></tr></thead>
    <tbody>${order.map((at) => html`<tr key=${times[at]}><th scope="row">${between(times[at], ends[at])}</th>${rows.map((each) => html`<td key=${each.name}>${number(each.counts[at])}</td>`)}
      <td>${number(rows.reduce((all, each) => all + each.counts[at], 0))}</td></tr>`)}</tbody></table></div></details>`;
}
