// The verdict in words and form. The same words are the page's title.
import { html } from "../html.js";
import { list, moment, percent, span, word } from "../language.js";
import { verdict } from "../verdict.js";

// A form for each level, so that none depends on its colour.
const FORMS = {
  fine: "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM7 12l3.5 3.5L17 9",
  short: "M12 2L22 12L12 22L2 12zM12 7v6M12 16v.5",
  degraded: "M12 2.5L22.5 21H1.5zM12 9v6M12 17.8v.4",
  down: "M8 2h8l6 6v8l-6 6H8l-6-6V8zM8.5 8.5l7 7M15.5 8.5l-7 7",
  unknown: "M3 3h18v18H3zM8 12h8",
};

const SAYS = {
  names: list, when: (at) => moment(at), span, mode: word, share: percent, cached: percent,
};

function reason({ why, values }) {
  const said = Object.entries(values).map(([name, value]) => [name, value === null ? "" : (SAYS[name] ?? ((same) => same))(value)]);
  const what = values.service === "upstash" ? word("what upstash") : word("what", { service: values.service, unit: word(values.unit ?? "") });
  return word(`why ${why}`, { ...Object.fromEntries(said), what, count: values.count });
}

export function inWords(data, now = Date.now() / 1000) {
  if (!data) return { level: "unknown", head: word("level unknown"), reasons: [] };
  const { level, reasons } = verdict(data, now);
  return { level, head: word(`level ${level}`), reasons: reasons.map(reason) };
}

// A verdict of before, where nothing newer can be read: what it said may hold no more.
export function outdated({ head, reasons }, at) {
  return { level: "unknown", head: word("outdated", { when: moment(at) }), reasons: [word("lastKnown", { head }), ...reasons] };
}

export const titleOf = ({ head, reasons }) => `${[head, reasons.join("; ")].filter(Boolean).join(": ")} – Breakwater`;

export function Verdict({ said: { level, head, reasons } }) {
  return html`<section class="verdict ${level}" aria-labelledby="verdict-title">
    <svg class="form" viewBox="0 0 24 24" aria-hidden="true"><path d=${FORMS[level]} /></svg>
    <div><h2 id="verdict-title">${head}</h2>
      <ul>${reasons.map((each) => html`<li>${each}</li>`)}</ul></div>
  </section>`;
}
