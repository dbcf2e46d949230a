// The state at a glance: a verdict in words and form, and the figures behind it.
import { html } from "../html.js";
import { has, lasting, number, percent, word } from "../language.js";
import { Verdict } from "../panels/verdict.js";
import { failureText, Panel } from "./panel.js";
import { stateOf } from "./state.js";

export function inWords(connection, views) {
  const { level, reasons } = stateOf(connection, views);
  return { level, head: word(`db level ${level}`), reasons: reasons.map(reasonText) };
}

function reasonText({ why, values: { seconds, code, reason, ...values } }) {
  if (why === "unread") return failureText({ code });
  const failed = has(`reason ${reason}`) ? word(`reason ${reason}`) : reason;
  const said = { ...values, lasting: lasting(seconds), reason: failed };
  // Programs need not say who they are.
  said.who = values.application ? `${values.pid} (${values.application})` : String(values.pid);
  return word(`db why ${why}`, said);
}

export function Glance({ said, views: { realtime, dashboard } }) {
  return html`<div class="wide"><${Verdict} said=${said} /></div>
    <${Panel} name="glance" view=${realtime} wide=${true}>${(now) => html`<ul class="tiles">
      <${Sessions} now=${now} />
      <${Tile} name="active" text=${number(now.active)} />
      <${Tile} name="waiting" text=${number(now.waiting)} level=${now.waiting ? "warn" : ""} />
      <${Tile} name="openIdle" text=${number(now.idleInTransaction)} />
      <${Tile} name="longestOpen" text=${now.longestTransactionS ? lasting(now.longestTransactionS) : "–"} />
      ${dashboard.value && html`<${Counters} counted=${dashboard.value} />`}
    </ul>`}<//>`;
}

function Sessions({ now: { sessions, mostSessions } }) {
  const share = mostSessions ? sessions / mostSessions : 0, level = share >= 0.9 ? "over" : share >= 0.75 ? "warn" : "";
  const text = mostSessions ? word("db ofMost", { used: sessions, most: mostSessions }) : number(sessions);
  return html`<${Tile} name="sessionCount" text=${text} level=${level}>
    ${mostSessions && html`<div class="track ${level}" role="meter" aria-label=${word("tile sessionCount")} aria-valuemin="0" aria-valuemax=${mostSessions}
      aria-valuenow=${Math.min(sessions, mostSessions)} aria-valuetext=${text}><div style=${{ width: `${Math.min(100, share * 100)}%` }}></div></div>`}<//>`;
}

function Counters({ counted }) {
  const blocks = counted.blocksHit + counted.blocksRead;
  return html`<${Tile} name="hits" text=${blocks ? percent(counted.blocksHit / blocks) : "–"} hint=${word("db sinceReset")} />
    <${Tile} name="version" text=${counted.version ?? "–"} hint=${counted.upS ? word("db up", { lasting: lasting(counted.upS) }) : ""} />`;
}

function Tile({ name, text, hint, level = "", children }) {
  return html`<li><span class="small">${word(`tile ${name}`)}</span>
    <strong class=${level && `${level}-text`}>${level && html`<span aria-hidden="true">▲ </span>`}${text}</strong>${children}
    ${hint && html`<span class="small">${hint}</span>`}</li>`;
}
