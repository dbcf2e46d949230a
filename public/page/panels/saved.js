// What the cache saved: calls, and tokens and money once the overview says so.
import { html } from "../html.js";
import { number, percent, word } from "../language.js";

const SPANS = ["hour", "day", "month"];
const KINDS = { calls: ["savedCalls", number], tokens: ["savedTokens", number], money: ["savedMoney", (value) => `$${number(value)}`] };

export function Saved({ data: { saved, hitRate } }) {
  const kinds = Object.keys(KINDS).filter((kind) => saved[kind]);
  return html`<section class="card" aria-labelledby="saved-title">
    <h2 id="saved-title">${word("saved")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("saved") })}><table class="full">
      <thead><tr><td></td>${SPANS.map((each) => html`<th scope="col" key=${each}>${word(each)}</th>`)}</tr></thead>
      <tbody>${kinds.map((kind) => html`<tr key=${kind}><th scope="row">${word(KINDS[kind][0])}</th>${SPANS.map((each) => html`<td key=${each}>${KINDS[kind][1](saved[kind][each])}</td>`)}</tr>`)}</tbody>
    </table></div>
    <p class="small">${word("hitRate", { hour: percent(hitRate.hour), day: percent(hitRate.day) })}</p>
  </section>`;
}
