// Redis, as the instance that has answered sees it: whether it answers, since when, how fast, and its last error.
import { html } from "../html.js";
import { howFailed, millis, moment, word } from "../language.js";

const SIGNS = { up: "●", down: "○", unknown: "◌", disabled: "–" };

export function Redis({ redis: { state, since, roundTripMs, reason, lastError } }) {
  const facts = state === "unknown" || state === "disabled" ? [["connection", stateOf(state)]] : [
    ["connection", stateOf(state, { reason: howFailed(reason), when: since ? moment(since) : "" })],
    ...(roundTripMs === undefined ? [] : [["trip", millis(roundTripMs)]]),
    ["error", lastError ? word("redis failed", { what: howFailed(lastError.kind), when: moment(lastError.at) }) : word("redis noError")],
  ];
  return html`<dl class="redis">${facts.map(([name, value]) => html`<div key=${name}><dt>${word(`redis ${name}`)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const stateOf = (state, values) => html`<span class=${{ up: "state", down: "state open" }[state] ?? ""}><span aria-hidden="true">${SIGNS[state]} </span>${word(`redis ${state}`, values)}</span>`;
