// Each provider's circuit, and the buttons that open or close it.
import { html } from "../html.js";
import { moment, word } from "../language.js";

const SIGNS = { closed: "●", suspect: "◐", probing: "◐", open: "○" };
const MINUTES = 10;

export function Circuits({ data, sure }) {
  return html`<section class="card" aria-labelledby="circuits-title">
    <h2 id="circuits-title">${word("circuits")}</h2>
    ${data.circuits.length ? html`<ul class="list">${data.circuits.map((each) => html`<${Circuit} key=${each.provider} each=${each} sure=${sure} />`)}</ul>`
      : html`<p>${word("noCircuits")}</p>`}
  </section>`;
}

function Circuit({ each, sure }) {
  const state = word(`state ${each.state}`, { when: each.until ? moment(each.until) : "", reason: each.reason });
  const more = each.state === "closed" && each.failures ? ` (${word("failures", { count: each.failures })})` : "";
  const closed = each.state === "closed", name = each.provider;
  const turn = () => closed
    ? sure(word("sure open", { who: name, minutes: MINUTES }), { action: "circuit", provider: name, state: "open", seconds: MINUTES * 60 })
    : sure(word("sure close", { who: name }), { action: "circuit", provider: name, state: "closed" });
  return html`<li><div><strong>${name}</strong> <span class="state ${each.state}"><span aria-hidden="true">${SIGNS[each.state]} </span>${state}${more}</span></div>
    <button type="button" onClick=${turn} aria-label=${`${word(closed ? "openCircuit" : "closeCircuit")}: ${name}`}>${word(closed ? "openCircuit" : "closeCircuit")}</button></li>`;
}
