// Ask a question as anybody may, and see what became of it.
import { ask } from "../api.js";
import { html, useState } from "../html.js";
import { millis, number, word } from "../language.js";

export function Playground({ data, token }) {
  const [text, show] = useState(""), [found, settle] = useState(null), [asking, wait] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    wait(true); show(""); settle(null);
    try {
      const reply = await ask(token, {
        query: given.get("query"), provider: given.get("provider"), stream: given.has("stream"), noCache: given.has("noCache"),
      }, show);
      show(reply.body.answer ?? "");
      settle(reply);
    } catch (error) {
      settle({ status: null, headers: {}, body: { detail: error instanceof TypeError ? word("offline") : error.message }, ms: null });
    } finally {
      wait(false);
    }
  };
  return html`<section class="card wide" aria-labelledby="playground-title">
    <h2 id="playground-title">${word("playground")}</h2>
    <p class="small">${word("playgroundHint")}</p>
    <form onSubmit=${submit} class="playground">
      <label for="query">${word("question")}</label><textarea id="query" name="query" rows="2" maxlength="8000" required placeholder=${word("questionExample")}></textarea>
      <div class="row">
        <div><label for="provider">${word("providerWord")}</label><select id="provider" name="provider"><option value="">${word("anyProvider")}</option>${data.circuits.map((each) => html`<option key=${each.provider} value=${each.provider}>${each.provider}</option>`)}</select></div>
        <label class="check"><input type="checkbox" name="stream" defaultChecked /> ${word("stream")}</label>
        <label class="check"><input type="checkbox" name="noCache" /> ${word("noCache")}</label>
        <button type="submit" class="main" disabled=${asking}>${asking ? word("asking") : word("ask")}</button>
      </div>
    </form>
    <div aria-live="polite">${(text || found) && html`<h3>${word("answer")}</h3>
      ${text && html`<p class="said">${text}</p>`}
      ${found?.body.broken && html`<p class="error">${word("broken")}</p>`}
      ${found?.body.detail && html`<p class="error">${[found.body.code, found.body.detail].filter(Boolean).join(": ")}</p>`}`}</div>
    ${found && html`<${Facts} ...${found} />`}
  </section>`;
}

function Facts({ status, headers, body, ms }) {
  const tried = body.attempts?.map((each) => `${each.provider}: ${each.outcome}`).join(", ") || headers["x-attempts"];
  const left = headers["x-ratelimit-remaining"], limit = headers["x-ratelimit-limit"];
  const facts = [
    ["status", status], ["cacheState", [headers["x-cache"], headers["cache-status"] && `(${headers["cache-status"]})`].filter(Boolean).join(" ")],
    ["providerWord", body.provider], ["model", body.model], ["attempts", tried], ["cost", costOf(body, headers)],
    ["timing", [ms !== null && millis(ms), headers["server-timing"] && `(${headers["server-timing"]})`].filter(Boolean).join(" ")],
    ["remaining", left && `${left} / ${limit}`], ["requestId", headers["x-request-id"]],
  ].filter(([, value]) => value);
  return html`<h3>${word("facts")}</h3><dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${word(name)}</dt><dd>${value}</dd></div>`)}</dl>
    <details><summary>${word("headers")}</summary><pre tabindex="0" role="region" aria-label=${word("headers")}><code>${Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join("\n")}</code></pre></details>`;
}

// As far as the reply says: money, else tokens; what a kept answer saved.
function costOf({ saved, usage, cost, provider }, headers) {
  if (saved) return `${word("noCost")}; ${word("savedHere", { ms: millis(saved.ms) })}${saved.tokens ? `, ${word("tokensUsed", { count: saved.tokens })}` : ""}`;
  if (!provider || headers["x-cache"] === "NONE") return word("noCost");
  if (cost !== undefined) return `$${number(cost)}`;
  return usage?.total_tokens ? word("tokensUsed", { count: usage.total_tokens }) : word("costUnknown");
}
