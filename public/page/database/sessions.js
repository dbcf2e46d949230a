// Everybody's sessions: what they do, since when, and whom they wait for.
import { html, useState } from "../html.js";
import { has, word } from "../language.js";
import { Picks } from "../picks.js";
import { named, nodeOf, stateText } from "./locks.js";
import { Panel, since } from "./panel.js";
import { FILTERS, ordered } from "./state.js";
import { Statement } from "./statement.js";

const COLUMNS = ["session", "state", "waitsFor", "statementFor", "transactionFor", "blockedBy", "statement"];

export function Sessions({ view, from }) {
  const [filter, pick] = useState("busy");
  return html`<${Panel} name="sessions" view=${view} wide=${true}>${({ sessions }) => {
    const counts = Object.fromEntries(Object.entries(FILTERS).map(([name, fits]) => [name, sessions.filter(fits).length]));
    const shown = ordered(sessions.filter(FILTERS[filter]));
    return html`<${Picks} name="sessionFilter" values=${Object.keys(FILTERS)} value=${filter} pick=${pick} counts=${counts} />
      ${shown.length ? html`<${Table} sessions=${shown} from=${from} />` : html`<p role="status">${word("db noSessions")}</p>`}`;
  }}<//>`;
}

function Table({ sessions, from }) {
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("db sessions") })}><table class="full sessions">
    <thead><tr>${COLUMNS.map((each) => html`<th scope="col" key=${each}>${word(`column ${each}`)}</th>`)}</tr></thead>
    <tbody>${sessions.map((each) => html`<tr key=${each.pid}><th scope="row">${each.pid} <span class="small">${named(each)}</span></th>
      <td>${stateText(each.state)}</td><td>${waitText(each)}</td><td>${since(each.state?.toLowerCase() === "active" ? each.statementS : null)}</td><td>${since(each.transactionS)}</td>
      <td>${each.blockedBy.map((pid) => html`<${Blocker} key=${pid} pid=${pid} />`)}</td><td><${Statement} text=${each.query} from=${from} /></td></tr>`)}</tbody>
  </table></div>`;
}

// Leads to the one who blocks, in the tree above.
function Blocker({ pid }) {
  const go = () => document.getElementById(nodeOf(pid))?.focus();
  return html`<button type="button" onClick=${go} aria-label=${word("db toBlocker", { pid: String(pid) })}>${pid}</button>`;
}

// An idle session waits for its client, which says nothing.
function waitText({ state, waitKind, wait }) {
  if (!waitKind || (waitKind === "Client" && state !== "active")) return "–";
  return `${kindText(waitKind)}${wait ? `: ${wait}` : ""}`;
}

export const kindText = (kind) => (has(`waitKind ${kind}`) ? word(`waitKind ${kind}`) : kind);
