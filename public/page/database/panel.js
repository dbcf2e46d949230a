// One view as a card: its heading and age, what is missing there, and why it cannot be shown, if so.
import { html } from "../html.js";
import { ago, has, lasting, word } from "../language.js";

// What a reply says is missing, by what it names; anything else is shown as it is.
const MISSING = { grant: "pg_monitor", extension: "pg_stat_statements", samples: "Samples are kept in Redis" };

export function missingText(text) {
  const [name] = Object.entries(MISSING).find(([, part]) => text.includes(part)) ?? [];
  return name ? word(`missing ${name}`) : text;
}

export function failureText({ code, status, retryAfter }) {
  const text = has(`failure ${code}`) ? word(`failure ${code}`) : word("server", { status });
  return code === "rate_limited" && retryAfter ? `${text} ${word("tryAgain", { lasting: lasting(retryAfter) })}` : text;
}

export const Age = ({ at }) => html`<span class="age-of small">${ago(at)}</span>`;

// How long something has lasted; a dash where it does not last, or nobody may know.
export const since = (seconds) => (seconds === null || seconds === undefined ? "–" : lasting(seconds));

// `children` gets the view's value, and is called only where there is one; `before` is shown in any case.
// `blind`: the role is known not to see everything, even if this reply does not say so.
export function Panel({ name, view: { value, error }, wide, before, blind, children }) {
  const missing = (value?.missing ?? []).map(missingText), notes = blind && !missing.length ? [word("missing grant")] : missing;
  return html`<section class="card ${wide ? "wide" : ""}" aria-labelledby="db-${name}">
    <div class="head"><h2 id="db-${name}">${word(`db ${name}`)}</h2>${value?.at && html`<${Age} at=${value.at} />`}</div>
    ${before}
    ${error ? html`<p class="trouble">${failureText(error)}</p>` : !value ? html`<p role="status">${word("loading")}</p>` : html`
      ${notes.map((each) => html`<p class="trouble" key=${each}>${each}</p>`)}
      ${children(value)}`}
  </section>`;
}
