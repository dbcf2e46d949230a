// Each provider's circuit, those of other people's code and of data origins that instances moved lately, and the buttons
// that open or close them.
import { html } from "../html.js";
import { howFailed, moment, word } from "../language.js";

const SIGNS = { closed: "●", suspect: "◐", probing: "◐", open: "○" };
const MINUTES = 10;

export function Circuits({ data, activity, sure }) {
  return html`<section class="card" aria-labelledby="circuits-title">
    <h2 id="circuits-title">${word("circuits")}</h2>
    ${data.circuits.length ? html`<ul class="list">${data.circuits.map((each) => html`<${Circuit} key=${each.provider} each=${each} sure=${sure} />`)}</ul>`
      : html`<p>${word("noCircuits")}</p>`}
    ${activity?.circuits.length > 0 && html`<h3>${word("movedCircuits")}</h3><p class="small">${word("movedHint")}</p>
      <ul class="list tall" tabindex="0" aria-label=${word("tableOf", { what: word("movedCircuits") })}>${activity.circuits.map((each) => html`<${Moved} key=${`${each.of} ${each.name}`} each=${each} sure=${sure} />`)}</ul>`}
  </section>`;
}

function Circuit({ each, sure }) {
  const state = word(`state ${each.state}`, { when: each.until ? moment(each.until) : "", reason: howFailed(each.reason) });
  const more = each.state === "closed" && each.failures ? ` (${word("failures", { count: each.failures })})` : "";
  return html`<li><div><strong>${each.provider}</strong> <${State} state=${each.state}>${state}${more}<//></div>
    <${Turn} closed=${each.state === "closed"} who=${each.provider} of=${{ provider: each.provider }} sure=${sure} /></li>`;
}

// It was so at that time; an open circuit whose time is over is tried with the next call, which is told of later.
function Moved({ each: { of, name, state, reason, at }, sure }) {
  const who = word(`whose ${of}`, { name });
  return html`<li><div><strong>${who}</strong> <${State} state=${state}>${word(`moved ${state}`, { when: moment(at), reason: howFailed(reason) })}<//></div>
    <${Turn} closed=${state === "closed"} who=${who} of=${{ [of]: name }} sure=${sure} /></li>`;
}

const State = ({ state, children }) => html`<span class="state ${state}"><span aria-hidden="true">${SIGNS[state]} </span>${children}</span>`;

function Turn({ closed, who, of, sure }) {
  const turn = () => closed
    ? sure(word("sure open", { who, minutes: MINUTES }), { action: "circuit", ...of, state: "open", seconds: MINUTES * 60 })
    : sure(word("sure close", { who }), { action: "circuit", ...of, state: "closed" });
  const text = word(closed ? "openCircuit" : "closeCircuit");
  return html`<button type="button" onClick=${turn} aria-label=${`${text}: ${who}`}>${text}</button>`;
}
