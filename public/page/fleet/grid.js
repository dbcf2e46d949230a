// All servers, worst first: a search, a choice of level, and one page of tiles, so that 1,000 of them are no more to draw
// than 60.
import { html, useEffect, useLayoutEffect, useRef } from "../html.js";
import { number, word } from "../language.js";
import { Picks } from "../picks.js";
import { addressOf } from "./address.js";
import { Start } from "./simulation.js";
import { Tile } from "./tile.js";
import { counts, LEVELS, sought as found } from "./trouble.js";

const PAGE = 60;

// `from`: the server whose page the reader comes back from.
// `sure` asks before an action; only an operator has it.
export function Grid({ fleet, hour, seen, which, sought, seek, from, sure }) {
  const { servers } = fleet, title = useRef(), matching = found(servers, "all", sought.text), shown = found(matching, sought.level, "");
  const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1), page = Math.min(sought.page, last);
  const turn = (to) => { seek({ ...sought, page: to }); title.current.focus(); title.current.scrollIntoView(); };
  const list = useKeptFocus();
  useEffect(() => { if (from) focusOn(list.current, from); }, []);
  if (!servers.length) return html`<${Nobody} which=${which} sure=${sure} />`;
  return html`<section class="card" aria-labelledby="servers-title">
    <h2 id="servers-title" ref=${title} tabindex="-1">${word("fleet all")}</h2>
    <div class="picks">
      <div class="search"><label for="servers-text">${word("fleet search")}</label>
        <input id="servers-text" type="search" maxlength="100" autocomplete="off" value=${sought.text} onInput=${(event) => seek({ ...sought, text: event.target.value, page: 0 })} /></div>
      <${Picks} name="show" values=${["all", ...LEVELS]} value=${sought.level} counts=${{ all: matching.length, ...counts(matching) }} pick=${(level) => seek({ ...sought, level, page: 0 })} />
    </div>
    <p class="small" role="status">${shown.length ? word("fleet shown", { from: page * PAGE + 1, to: Math.min(shown.length, (page + 1) * PAGE), count: shown.length, total: number(servers.length) }) : word("fleet nobodyFound")}</p>
    <p class="small">${word("fleet legend", { percent: fleet.highPercent })}</p>
    <ul class="servers" ref=${list} aria-labelledby="servers-title">${shown.slice(page * PAGE, (page + 1) * PAGE).map((each) => html`<${Tile} key=${each.id} server=${each} fleet=${fleet} hour=${hour} seen=${seen} which=${which} />`)}</ul>
    ${last > 0 && html`<nav class="pager" aria-label=${word("fleet pages")}>
      <button type="button" disabled=${page === 0} onClick=${() => turn(page - 1)}>${word("fleet before")}</button>
      <span>${word("fleet page", { page: page + 1, of: last + 1 })}</span>
      <button type="button" disabled=${page === last} onClick=${() => turn(page + 1)}>${word("fleet after")}</button></nav>`}
  </section>`;
}

// A tile that moves to another place loses the focus on its way: it gets it back.
function useKeptFocus() {
  const list = useRef(), focused = document.activeElement?.closest(".servers > li")?.dataset.id;
  useLayoutEffect(() => {
    if (focused === undefined || document.activeElement !== document.body) return;
    focusOn(list.current, focused);
  });
  return list;
}

const focusOn = (list, id) => [...(list?.children ?? [])].find((each) => each.dataset.id === id)?.querySelector("a").focus();

function Nobody({ which, sure }) {
  if (which === "simulated") return html`<section class="card" aria-labelledby="servers-title"><h2 id="servers-title">${word("fleet all")}</h2>
    <p>${word(sure ? "fleet noScenario" : "fleet noScenarioHere")}</p>
    ${sure && html`<${Start} sure=${sure} />`}</section>`;
  return html`<section class="card" aria-labelledby="servers-title"><h2 id="servers-title">${word("fleet all")}</h2>
    <p>${word("fleet noReport")}</p>
    <pre tabindex="0" role="region" aria-label="collector"><code>python breakwater_collector.py --url ${location.origin} --reporter seoul</code></pre>
    <p><a href=${addressOf("simulated")}>${word("fleet showSimulated")}</a></p></section>`;
}
