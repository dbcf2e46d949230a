// The servers that report: a grid of all of them, worst first, or one of them with its history. #fleet/simulated shows
// those of a scenario in their place, never both.
import { useActions } from "../acting.js";
import { figures, isUsers, worded } from "../api.js";
import { Bar } from "../bar.js";
import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { ago, moment, number, word } from "../language.js";
import { outdated, Verdict } from "../panels/verdict.js";
import { Picks } from "../picks.js";
import { usePolling } from "../polling.js";
import { Ask } from "./ask.js";
import { addressOf } from "./address.js";
import { Grid } from "./grid.js";
import { seenAlso } from "./points.js";
import { Redis } from "./redis.js";
import { Server } from "./server.js";
import { stateText } from "./sign.js";
import { Stop } from "./simulation.js";
import { counts, LEVELS, ranked } from "./trouble.js";

const EVERY_S = 60, FRESH_S = 30, RETRIES = 3, RETRY_S = 5, HOUR_EVERY_S = 300;
const EDGE_MS = 90_000; // For so long an edge may give what was before (lib/fleet/dashboard.py).

export function Fleet({ token, about, refused }) {
  const which = about.startsWith("simulated") ? "simulated" : "real", id = about.includes("/") ? about.slice(about.indexOf("/") + 1) : "";
  const [sought, seek] = useState({ text: "", level: "all", page: 0 }), seen = useRef({}), visited = useRef(""), actedAt = useRef(-Infinity);
  if (id) visited.current = id;
  const only = which === "simulated" ? { simulated: "1" } : {};
  const reading = usePolling(async () => {
    const found = await figures("/api/dashboard", token, only, Date.now() - actedAt.current < EDGE_MS), servers = ranked(found.servers, found.highPercent), at = Date.parse(found.timestamp) / 1000;
    seen.current = { [which]: seenAlso(seen.current[which] ?? {}, servers, at) };
    return { ...found, servers, at };
  }, { key: which, everyS: EVERY_S, freshS: FRESH_S, retries: RETRIES, retryS: RETRY_S, refused });
  const hour = usePolling(() => figures("/api/dashboard/history", token, only), { key: which, everyS: HOUR_EVERY_S, freshS: HOUR_EVERY_S, refused });
  const { sure, said: became, question } = useActions(token, () => { actedAt.current = Date.now(); reading.again(); hour.again(); });
  const said = saidOf(reading), one = reading.value?.servers.find((each) => each.id === id), at = reading.value?.at;
  const shown = one ? `${one.name}: ${stateText(one, at)}` : id || said.reasons[0], title = isOld(reading) ? `${said.head}: ${shown}` : id ? shown : said.head;
  useLayoutEffect(() => { document.title = `${which === "simulated" ? `${word("which simulated")}: ` : ""}${title} – Breakwater`; });
  const operator = !isUsers(token), shared = { fleet: reading.value, hour: hour.value, seen: seen.current[which] ?? {}, which };
  return html`<div class="fleet ${which}">
    <${Bar} name="fleet" age=${ageOf(reading)} again=${reading.again} />
    ${(operator || reading.value?.scenario || which === "simulated") && html`<div class="picks"><${Picks} name="which" values=${["real", "simulated"]} value=${which} pick=${(wanted) => { location.hash = addressOf(wanted); }} /></div>`}
    ${reading.value && html`<${Redis} redis=${hasFailed(reading) ? { state: "unknown" } : reading.value.redis} />`}
    ${which === "simulated" && html`<${Simulated} fleet=${reading.value} sure=${operator && sure} />`}
    ${became}
    ${!id && (reading.value || hasFailed(reading)) && html`<${Verdict} said=${said} />`}
    <p class="trouble" role="alert" hidden=${!troubleOf(reading)}>${troubleOf(reading)}</p>
    ${!reading.value ? null : id ? html`<${Server} key=${`${which} ${id}`} id=${id} token=${token} refused=${refused} ...${shared} />` : html`
      ${reading.value.total > 0 && html`<${Ask} key=${which} token=${token} which=${which} />`}
      <${Grid} sought=${sought} seek=${seek} from=${visited.current} sure=${operator && sure} ...${shared} />`}
    ${question}
  </div>`;
}

// Whether no attempt follows at once: all were made, or the API has said when it may be asked again.
const hasFailed = ({ failed, waitS }) => failed > RETRIES || (failed > 0 && waitS > RETRY_S);

// Whether what is shown may hold no more.
const isOld = (reading) => Boolean(reading.value) && (hasFailed(reading) || reading.value.source === "last");

// How old the figures are, or that an attempt follows at once.
function ageOf(reading) {
  const { value, error, failed } = reading;
  if (failed && !hasFailed(reading)) return word("fleet retrying", { failed, of: RETRIES, why: whyOf(error) });
  return value ? word("fresh", { when: ago(value.at) }) : failed ? "" : word("loading");
}

function Simulated({ fleet, sure }) {
  const scenario = fleet?.scenario, at = (text) => moment(Date.parse(text) / 1000);
  return html`<p class="simulated-note"><strong>${word("fleet notReal")}</strong> ${scenario
    && word("fleet scenario", { name: scenario.name, from: at(scenario.startedAt), to: at(scenario.endsAt) })}</p>
    ${scenario && sure && html`<p><${Stop} name=${scenario.name} sure=${sure} /></p>`}`;
}

const whyOf = (error) => (error.code === "store_unavailable" ? word("fleet noRedis") : worded(error));

function troubleOf(reading) {
  const { value, error, failed, waitS } = reading;
  const values = { count: failed, seconds: waitS, why: error && whyOf(error) };
  if (hasFailed(reading)) return value ? word("fleet stale", { ...values, when: moment(value.at) }) : word("fleet empty", values);
  if (value?.source === "last") return word("fleet last", { when: moment(value.at) });
  return "";
}

const VERDICTS = { silent: "down", high: "degraded", late: "short", online: "fine" };

function saidOf(reading) {
  const said = inWords(reading.value);
  return isOld(reading) ? outdated(said, reading.value.at) : said;
}

// How the fleet is: its worst level, and how many servers are at each.
function inWords(fleet) {
  if (!fleet) return { level: "unknown", head: word("level unknown"), reasons: [] };
  const { servers, conflicts } = fleet, of = counts(servers), worst = LEVELS.find((level) => of[level]), bad = servers.length - of.online;
  const head = !worst ? word("fleet none") : bad ? word("fleet bad", { count: bad, total: number(servers.length) }) : word("fleet fine", { count: servers.length });
  const reasons = LEVELS.filter((level) => of[level] && (bad || level !== "online")).map((level) => word(`fleet count ${level}`, { count: of[level], percent: fleet.highPercent }));
  return { level: VERDICTS[worst] ?? "unknown", head, reasons: [...reasons, ...conflicts.slice(0, 3).map(conflict), ...(conflicts.length > 3 ? [word("fleet conflicts", { count: conflicts.length - 3 })] : [])] };
}

const conflict = ({ id, reporters }) => word("fleet conflict", { id, reporters: reporters.join(", ") });
