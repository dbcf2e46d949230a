// What every free tier has left, and until when it lasts.
import { html } from "../html.js";
import { has, moment, number, word } from "../language.js";

export function Left({ data }) {
  return html`<section class="card wide" aria-labelledby="left-title">
    <h2 id="left-title">${word("left")}</h2>
    <ul class="allowances">${data.allowances.map((each) => html`<li key=${each.service + each.unit}><${Allowance} ...${each} /></li>`)}</ul>
  </section>`;
}

function Allowance(each) {
  const [kind, zone] = each.period.split(", ");
  const unit = has(each.unit) ? word(each.unit) : each.unit, limit = number(each.limit);
  const name = word("allowance", { unit, period: has(`period ${kind}`) ? word(`period ${kind}`, { zone }) : kind });
  if (each.used === null) return html`<h3>${each.service} <span>–</span></h3><p class="small">${name}</p><p>${word("unknown", { limit, unit })}</p>`;
  const level = each.left === 0 ? "over" : each.percent >= 80 || each.runsOutAt ? "warn" : "";
  const used = word("used", { used: number(each.used), limit, unit, left: number(each.left) });
  const forecast = each.left === 0 ? word("out") : each.runsOutAt ? word("runsOut", { when: moment(each.runsOutAt) }) : each.unit === "MB" ? "" : word("lasts");
  const resets = each.period === "24 hours" ? word("rolling") : each.resetsAt ? word("resets", { when: moment(each.resetsAt) }) : "";
  const source = word(each.source, { when: each.asOf ? moment(each.asOf) : "" });
  return html`<h3>${each.service} <span>${number(each.percent)} %</span></h3>
    <p class="small">${name}</p>
    <div class="track ${level}" role="meter" aria-label=${`${each.service}, ${name}`} aria-valuemin="0" aria-valuemax="100"
      aria-valuenow=${Math.min(100, each.percent)} aria-valuetext=${`${used} ${forecast}`}><div style=${{ width: `${Math.min(100, each.percent)}%` }}></div></div>
    <p>${used}</p>
    <p class=${level && `${level}-text`}>${level && html`<span aria-hidden="true">${level === "over" ? "✕ " : "▲ "}</span>`}${forecast}</p>
    <p class="small">${[resets, `(${source})`].filter(Boolean).join(" ")}</p>`;
}
