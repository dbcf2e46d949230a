// What working sessions wait for, the most at the top.
import { html } from "../html.js";
import { word } from "../language.js";
import { Panel, since } from "./panel.js";
import { kindText } from "./sessions.js";

export function Waits({ view, blind }) {
  return html`<${Panel} name="waits" view=${view} blind=${blind}>${({ waits, of }) => {
    const sizeOf = (each) => (of === "now" ? each.sessions : each.waitedS) ?? 0, most = Math.max(...waits.map(sizeOf));
    return html`<p class="small">${word(`sampled ${of}`)}</p>
      ${!waits.length ? !blind && html`<p>${word("db noWaits")}</p>` : html`<ul class="waits">${waits.map((each) => html`<li key=${`${each.kind} ${each.wait}`}>
        <div class="between"><span>${kindText(each.kind)}${each.wait && html`<span class="small"> ${each.wait}</span>`}</span><span>${text(each, of)}</span></div>
        <div class="track" aria-hidden="true"><div style=${{ width: `${most ? (100 * sizeOf(each)) / most : 0}%` }}></div></div></li>`)}</ul>`}`;
  }}<//>`;
}

const text = (each, of) => (of === "now" ? word("db waitsNow", { count: each.sessions, lasting: since(each.longestS) })
  : word("db waitsAll", { count: each.waits, lasting: since(each.waitedS) }));
