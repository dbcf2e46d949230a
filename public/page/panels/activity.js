// Who calls most, which requests are worth a look, and the alerts that were sent.
import { html } from "../html.js";
import { form, has, millis, moment, number, word, WORDS } from "../language.js";

const when = (at) => html`<time datetime=${new Date(at * 1000).toISOString()}>${moment(at)}</time>`;
// That there is nothing can be said only where Redis was read.
const noneOf = (activity, name) => (activity.source === "instance" ? "unknownNow" : name);
const short = (hash) => `${hash.slice(0, 8)}…`;

export function Callers({ activity, sure }) {
  const reset = (caller) => sure(word("sure reset", { who: short(caller) }), { action: "reset", caller });
  return html`<section class="card" aria-labelledby="callers-title">
    <h2 id="callers-title">${word("callers")}</h2>
    ${!activity ? html`<p role="status">${word("loading")}</p>` : !activity.callers.length ? html`<p>${word(noneOf(activity, "noCallers"))}</p>` : html`
    <p class="small">${word("callersHint", { when: moment(activity.since) })}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("callers") })}><table class="full">
      <thead><tr><th scope="col">${word("caller")}</th><th scope="col">${word("calls")}</th><td></td></tr></thead>
      <tbody>${activity.callers.map((each) => html`<tr key=${each.caller}><th scope="row"><code title=${each.caller}>${short(each.caller)}</code></th><td>${number(each.requests)}</td>
        <td><button type="button" onClick=${() => reset(each.caller)} aria-label=${word("resetOf", { who: short(each.caller) })}>${word("reset")}</button></td></tr>`)}</tbody>
    </table></div>`}
  </section>`;
}

export function NotableRequests({ activity }) {
  const found = activity?.notable;
  return html`<section class="card wide" aria-labelledby="notable-title">
    <h2 id="notable-title">${word("notable")}</h2>
    ${!found ? html`<p role="status">${word("loading")}</p>` : !found.length ? html`<p>${word(noneOf(activity, "noNotable"))}</p>` : html`
    <p class="small">${word("notableHint")}</p>
    <ul class="list tall" tabindex="0" aria-label=${word("tableOf", { what: word("notable") })}>${found.map((each) => html`<${Request} key=${each.request + each.at} ...${each} />`)}</ul>`}
  </section>`;
}

function Request(each) {
  const about = [each.provider, each.route.replace("/api/", ""), millis(each.ms)].filter(Boolean).join(" · ");
  return html`<li class="request"><div><span class="tag ${each.kind}">${word(`kind ${each.kind}`)}</span> <strong>${each.status}</strong> ${each.attempts || each.reason}
      <p class="small">${about}</p></div>
    <p class="small">${when(each.at)}${each.caller && html`<br />${word("caller")} <code title=${each.caller}>${short(each.caller)}</code>`}<br />${word("requestId")} <code title=${each.request}>${short(each.request)}</code></p></li>`;
}

export function Alerts({ activity }) {
  const found = activity?.alerts;
  return html`<section class="card" aria-labelledby="alerts-title">
    <h2 id="alerts-title">${word("alerts")}</h2>
    ${!found ? html`<p role="status">${word("loading")}</p>` : !found.length ? html`<p>${word(noneOf(activity, "noAlerts"))}</p>`
      : html`<ul class="list tall" tabindex="0" aria-label=${word("tableOf", { what: word("alerts") })}>${found.map((each) => html`<li key=${`${each.kind} ${each.about} ${each.at}`}><span>${alertText(each)}</span>${when(each.at)}</li>`)}</ul>`}
  </section>`;
}

// Whom an alert is about: a word of ours, a circuit of other people's code or of a data origin, a reporter, a server's
// metric, or a name as it is.
function aboutText(kind, about) {
  const [, whose, name] = /^(app|origin):(.+)$/.exec(about) ?? [];
  if (whose) return word(`whose ${whose === "app" ? "circuit" : "origin"}`, { name: decodeURIComponent(name) });
  if (kind === "mode" && has(about)) return word(about);
  if (!kind.startsWith("server_")) return about;
  const [, reporter] = /^reporter (.+)$/.exec(about) ?? [], [, server, metric] = /^(.+) (cpu|memory|disk)$/.exec(about) ?? [];
  return reporter ? word("whose reporter", { name: reporter }) : metric ? `${server} ${word(`metric ${metric}`)}` : about;
}

function alertText({ kind, about }) {
  const name = `alert ${kind}`, shown = aboutText(kind, about);
  // A kind that has no words here is shown by its name.
  if (!has(name)) return [kind, shown].filter(Boolean).join(": ");
  return Array.isArray(WORDS.en[name]) ? form(name, Number(about)) : word(name, { about: shown });
}
