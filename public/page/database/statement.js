// A statement: one line of it, and on demand the whole text with what a model says of it.
import { analyze } from "../api.js";
import { html, useState } from "../html.js";
import { has, spoken, word } from "../language.js";
import { failureText } from "./panel.js";
import { hasPlan } from "./state.js";

const KINDS = ["analysis", "tuning", "plan"];

// `text`: null where nobody may see it, undefined while it is on its way. `from`: { token, connection }.
export function Statement({ text, from }) {
  const [open, opened] = useState(false);
  if (text === undefined) return html`<p class="no-text small">${word("loading")}</p>`;
  if (!text) return html`<p class="no-text small">${word("db noText")}</p>`;
  return html`<details class="statement" onToggle=${(event) => opened(event.currentTarget.open)}>
    <summary><code>${text.replace(/\s+/g, " ")}</code></summary>
    ${open && html`<pre tabindex="0" role="region" aria-label=${word("db text")}><code>${text}</code></pre><${Analysis} key=${text} text=${text} from=${from} />`}
  </details>`;
}

function Analysis({ text, from: { token, connection } }) {
  const [found, show] = useState(null), can = hasPlan(text, connection.kind), busy = found !== null && !found.over;
  const ask = async (kind) => {
    if (busy) return;
    const asked = { sql: text, kind, language: spoken(), dialect: connection.kind === "oracle" ? "oracle" : "postgres" };
    if (kind === "plan") asked.connectionId = connection.id;
    show({ kind, said: "", over: false });
    try {
      const answer = await analyze(token, asked, (said) => show({ kind, said, over: false }));
      show({ kind, said: answer.answer, over: true, ...answer });
    } catch (error) {
      show({ kind, said: "", over: true, error });
    }
  };
  // A button that is disabled would lose the focus.
  return html`<div class="analysis">
    <div class="row" role="group" aria-label=${word("analyse")}>${KINDS.filter((kind) => kind !== "plan" || can).map((kind) => html`<button type="button" key=${kind}
      aria-disabled=${busy} onClick=${() => ask(kind)}>${word(`analyse ${kind}`)}</button>`)}</div>
    <p class="small">${word("analyseHint")} ${!can && word("noPlan")}</p>
    <div aria-live="polite" aria-busy=${busy}>${found && html`<${Said} ...${found} />`}</div>
  </div>`;
}

function Said({ kind, said, over, error, broken, model, provider, cached }) {
  if (error) return html`<p class="error">${problemText(error)}</p>`;
  if (!said) return html`<p>${word(over ? "db noAnswer" : "asking")}</p>`;
  return html`<h3>${word(`analyse ${kind}`)}</h3><p class="said">${said}</p>
    ${broken && html`<p class="error">${word("broken")}</p>`}
    ${over && !broken && html`<p class="small">${word(cached ? "saidCached" : "saidBy", { model: model ?? provider ?? "" })}</p>`}`;
}

// What was wrong with a request is said by the API in English; everything else has words here.
function problemText(error) {
  if (error.status === undefined) return error instanceof TypeError ? word("offline") : error.message;
  return has(`failure ${error.code}`) || !error.detail ? failureText(error) : error.detail;
}
