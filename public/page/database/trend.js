// How the database was used over time: a line for each figure, all with the same choice of a time.
import { Choosing } from "../chart.js";
import { html, useState } from "../html.js";
import { clock, date, number, percent, sameDay, word, zone } from "../language.js";
import { Line } from "../line.js";
import { Picks } from "../picks.js";
import { usePolling } from "../polling.js";
import { Panel } from "./panel.js";
import { readTrend } from "./reading.js";

const PERIODS = ["1h", "24h", "7d"], EVERY_S = 300;
const FIGURES = {
  sessions: number, commitsPerS: number, rowsFetchedPerS: number, rowsWrittenPerS: number, hitRatio: percent,
};

export function Trend({ token, id, refused }) {
  const [period, pick] = useState("24h");
  const { value, error } = usePolling(() => readTrend(token, id, period), { key: `${id} ${period}`, everyS: EVERY_S, retries: 3, retryS: 30, refused });
  return html`<${Panel} name="trend" view=${{ value, error: value || !error ? null : failed(error) }} wide=${true} before=${html`<${Picks} name="range" values=${PERIODS} value=${period} pick=${pick} />`}>
    ${({ points, everyS }) => (points.length ? html`<${Shown} key=${period} points=${points} everyS=${everyS} />` : html`<p>${word("db noTrend")}</p>`)}<//>`;
}

// What is read is in Redis: the database is not asked.
const failed = (error) => ({ ...error, code: error.status === 503 ? "samples" : error.code, status: error.status });

// A point tells of the time since the one before it.
function Shown({ points, everyS }) {
  const [chosen, choose] = useState(null), ends = points.map((each) => each.at), times = points.map((each, at) => points[at - 1]?.at ?? each.at - everyS);
  const at = chosen ?? points.length - 1, names = Object.keys(FIGURES);
  const text = `${between(times[at], ends[at])}: ${names.map((name) => `${word(`figure ${name}`)} ${figure(name, points[at])}`).join(" · ")}${points[at].reset ? ` (${word("db reset")})` : ""}`;
  return html`<p class="small">${word("zone", { zone: zone() })}</p>
    <p class="readout" aria-hidden="true">${text}</p>
    <${Choosing} label=${word("choose", { what: word("db trend") })} text=${text} count=${points.length} chosen=${chosen} choose=${choose}>
      ${names.map((name, place) => html`<h3 class="strip-title" key=${name}>${word(`figure ${name}`)} <span>${figure(name, points.at(-1))}</span></h3>
        <${Line} key=${`line ${name}`} times=${times} ends=${ends} chosen=${chosen} choose=${choose} values=${points.map((each) => each[name])}
          worded=${FIGURES[name]} top=${name === "hitRatio" ? 1 : 0} axis=${place === names.length - 1} />`)}
    <//>
    <p class="small">${word("db trendHint")}</p>
    <${Table} points=${points} times=${times} ends=${ends} />`;
}

const figure = (name, point) => (point[name] === null ? "–" : FIGURES[name](point[name]));

function between(from, to) {
  return `${sameDay(from, Date.now() / 1000) ? "" : `${date(from)} `}${clock(from)}–${clock(to)}`;
}

function Table({ points, times, ends }) {
  const names = [...Object.keys(FIGURES), "rollbacksPerS", "deadlocks"];
  const shown = (name, point) => (FIGURES[name] ? figure(name, point) : point[name] === null ? "–" : number(point[name]));
  return html`<details><summary>${word("asTable")}</summary><div class="scroll tall" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("db trend") })}><table>
    <thead><tr><th scope="col">${word("time")}</th>${names.map((name) => html`<th scope="col" key=${name}>${word(`figure ${name}`)}</th>`)}</tr></thead>
    <tbody>${points.map((each, at) => html`<tr key=${each.at}><th scope="row">${between(times[at], ends[at])}</th>${names.map((name) => html`<td key=${name}>${shown(name, each)}</td>`)}</tr>`).toReversed()}</tbody>
  </table></div></details>`;
}
