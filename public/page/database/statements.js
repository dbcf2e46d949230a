// The statements that take most of the database's time, with their share of it.
import { html, useState } from "../html.js";
import { millis, number, percent, word } from "../language.js";
import { Panel } from "./panel.js";
import { useTexts } from "./reading.js";
import { Statement } from "./statement.js";

const FIRST = 10;
// How our own statements begin (lib/databases/postgres.py).
const OWN = /^select coalesce\(jsonb_agg\(to_jsonb\(each_row\)\)/;
const NUMBERS = {
  total: (each) => millis(each.totalMs), calls: (each) => number(each.calls), mean: (each) => millis(each.meanMs), slowest: (each) => millis(each.maxMs),
  rows: (each) => number(each.rows), fromMemory: (each) => (each.hitRatio === null ? "–" : percent(each.hitRatio)),
};

export function Statements({ view, from }) {
  const statements = view.value?.statements ?? [], texts = useTexts(from.token, from.connection.id, statements, view.value?.at);
  const [all, showAll] = useState(false), shown = all ? statements : statements.slice(0, FIRST), more = statements.length - shown.length;
  return html`<${Panel} name="statements" view=${view} wide=${true}>${({ missing }) => (!statements.length ? missing.length === 0 && html`<p>${word("db noStatements")}</p>` : html`
    <p class="small">${word("db statementsHint")}</p>
    <ol class="ranking">${shown.map((each) => html`<li key=${each.id}>
      <div class="share"><strong>${percent(each.share)}</strong><div class="track" aria-hidden="true"><div style=${{ width: `${100 * (each.share ?? 0)}%` }}></div></div></div>
      <div class="told">${OWN.test(texts[each.id]) && html`<span class="tag small">${word("db own")}</span>`}<${Statement} text=${texts[each.id]} from=${from} /></div>
      <dl>${Object.entries(NUMBERS).map(([name, of]) => html`<div key=${name}><dt>${word(`number ${name}`)}</dt><dd>${of(each)}</dd></div>`)}</dl>
    </li>`)}</ol>
    ${more > 0 && html`<button type="button" onClick=${() => showAll(true)}>${word("db more", { count: more })}</button>`}`)}<//>`;
}
