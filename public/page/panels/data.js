// Reads of data routes this month, by family and by where their values came from.
import { html } from "../html.js";
import { bytes, number, percent, word } from "../language.js";

const TIERS = ["memory", "redis", "stale", "collapsed", "origin", "failed"];

export function Data({ data: { source, dataReads: { total, families } } }) {
  const rows = Object.entries(families).map(([name, each]) => [name === "other" ? word(name) : name, each]);
  if (rows.length > 1) rows.push([word("total"), total]);
  return html`<section class="card wide" aria-labelledby="data-title">
    <h2 id="data-title">${word("dataTitle")}</h2>
    ${rows.length ? html`<p class="small">${word("dataHint")}</p><${Reads} rows=${rows} />`
      : source === "instance" ? html`<p>${word("unknownNow")}</p>`
      : html`<p>${word("noData")}</p><pre tabindex="0" role="region" aria-label="curl: ${word("dataTitle")}"><code>curl ${location.origin}/api/rankings/demo</code></pre>`}
  </section>`;
}

function Reads({ rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("dataTitle") })}><table class="full data-reads">
    <thead><tr><th scope="col">${word("family")}</th><th scope="col">${word("hitRatio")}</th>${TIERS.map((tier) => html`<th scope="col" key=${tier}>${word(`tier ${tier}`)}</th>`)}<th scope="col">${word("bytesSaved")}</th></tr></thead>
    <tbody>${rows.map(([name, each]) => html`<tr key=${name}><th scope="row">${name}</th><td>${percent(each.hitRatio)}</td>
      ${TIERS.map((tier) => html`<td key=${tier}>${number(each.reads[tier])}</td>`)}<td>${bytes(each.bytesSaved)}</td></tr>`)}</tbody>
  </table></div>`;
}
