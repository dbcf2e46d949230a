// What the cache saved, in calls; and by provider, what answers cost and the cache saved in tokens and money.
import { html } from "../html.js";
import { number, percent, word } from "../language.js";

const SPANS = ["hour", "day", "month"];

// Of a provider that has answered this month: input, output, money; what the cache saved of each. The currency is that of AI_PRICES.
const FIGURES = {
  tokensIn: (each) => each.tokensIn, tokensOut: (each) => each.tokensOut, money: (each) => each.amount,
  savedTokens: (each) => each.savedTokensIn + each.savedTokensOut, savedMoney: (each) => each.savedAmount,
};

function Costs({ costs }) {
  const told = costs.filter((each) => each.tokensIn || each.tokensOut || each.savedTokensIn || each.savedTokensOut);
  return told.length > 0 && html`<h3 id="costs-title">${word("costs")}</h3>
    <div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("costs") })}><table class="full">
      <thead><tr><td></td>${Object.keys(FIGURES).map((each) => html`<th scope="col" key=${each}>${word(each)}</th>`)}</tr></thead>
      <tbody>${told.map((each) => html`<tr key=${each.provider}><th scope="row">${each.provider}</th>${Object.entries(FIGURES).map(([name, of]) => html`<td key=${name}>${of(each) === null ? "–" : number(of(each))}</td>`)}</tr>`)}</tbody>
    </table></div>`;
}

export function Saved({ data: { source, saved, costs, hitRate } }) {
  if (source === "instance" && !saved.calls.month) return html`<section class="card" aria-labelledby="saved-title"><h2 id="saved-title">${word("saved")}</h2><p>${word("unknownNow")}</p></section>`;
  return html`<section class="card" aria-labelledby="saved-title">
    <h2 id="saved-title">${word("saved")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("saved") })}><table class="full">
      <thead><tr><td></td>${SPANS.map((each) => html`<th scope="col" key=${each}>${word(each)}</th>`)}</tr></thead>
      <tbody><tr><th scope="row">${word("savedCalls")}</th>${SPANS.map((each) => html`<td key=${each}>${number(saved.calls[each])}</td>`)}</tr></tbody>
    </table></div>
    <p class="small">${word("hitRate", { hour: percent(hitRate.hour), day: percent(hitRate.day) })}</p>
    <${Costs} costs=${costs} />
  </section>`;
}
