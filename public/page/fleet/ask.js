// A question about these servers. Their figures go along on the way to the model (`parameters.fleet`).
import { ask, worded } from "../api.js";
import { html, useState } from "../html.js";
import { word } from "../language.js";

export function Ask({ token, which }) {
  const [text, show] = useState(""), [found, settle] = useState(null), [asking, wait] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const query = new FormData(event.target).get("query");
    wait(true); show(""); settle(null);
    try {
      const reply = await ask(token, { query, stream: true, fleet: which === "simulated" ? "simulated" : true }, show);
      show(reply.body.answer ?? "");
      settle(reply.body);
    } catch (error) {
      settle({ detail: worded(error) });
    } finally {
      wait(false);
    }
  };
  return html`<section class="card" aria-labelledby="ask-title">
    <form class="ask" onSubmit=${submit}>
      <div><h2 id="ask-title">${word("fleet ask")}</h2><input name="query" aria-labelledby="ask-title" aria-describedby="ask-hint" required maxlength="8000" autocomplete="off" placeholder=${word("fleet askExample")} /></div>
      <button type="submit" class="main" disabled=${asking}>${asking ? word("asking") : word("ask")}</button>
    </form>
    <p id="ask-hint" class="small">${word(`fleet askHint ${which}`)}</p>
    <div aria-live="polite">${text && html`<p class="said">${text}</p>`}
      ${found?.broken && html`<p class="error">${word("broken")}</p>`}
      ${found?.detail && html`<p class="error">${[found.code, found.detail].filter(Boolean).join(": ")}</p>`}
      ${found?.provider && html`<p class="small">${word("fleet answeredBy", { provider: found.provider })}</p>`}</div>
  </section>`;
}
