// Admin actions; each is confirmed before it is done.
import { Select, submitted } from "../acting.js";
import { html, useState } from "../html.js";
import { word } from "../language.js";

export function Actions({ data, sure }) {
  return html`<section class="card wide" aria-labelledby="actions-title">
    <h2 id="actions-title">${word("actions")}</h2>
    <p class="small">${word("actionsHint")}</p>
    <div class="forms"><${Reset} sure=${sure} providers=${data.circuits} /><${Invalidate} sure=${sure} /><${Turn} sure=${sure} providers=${data.circuits} /></div>
  </section>`;
}

const named = (providers) => providers.map(({ provider }) => [provider, provider]);

function Reset({ sure, providers }) {
  const [of, set] = useState("caller");
  const submit = submitted(({ who }) => sure(word("sure reset", { who: who.trim() }), { action: "reset", [of]: who.trim() }));
  return html`<form onSubmit=${submit}><h3>${word("resetTitle")}</h3>
    <${Select} id="reset-of" label=${word("resetWho")} values=${["caller", "address", "user", "provider"].map((each) => [each, word(`who ${each}`)])} value=${of} onChange=${(event) => set(event.target.value)} />
    ${of === "provider" ? html`<${Select} id="reset-who" name="who" label=${word("value")} values=${named(providers)} />`
      : html`<label for="reset-who">${word("value")}</label><input key=${of} id="reset-who" name="who" required maxlength="200" autocomplete="off" ...${of === "caller" ? { pattern: "[0-9a-f]{32}" } : {}} />`}
    <button type="submit">${word("reset")}</button></form>`;
}

function Invalidate({ sure }) {
  const [scope, set] = useState("everything");
  const submit = submitted((given) => {
    const values = Object.fromEntries(Object.entries(given).filter(([name, value]) => name !== "scope" && value.trim()).map(([name, value]) => [name, value.trim()]));
    sure(word("sure invalidate", { what: [word(`scope ${scope}`), ...Object.values(values)].join(" ") }), { action: "invalidate", scope, ...values });
  });
  return html`<form onSubmit=${submit}><h3>${word("invalidateTitle")}</h3>
    <${Select} id="scope" label=${word("scope")} values=${["everything", "route", "session", "tag"].map((each) => [each, word(`scope ${each}`)])} value=${scope} onChange=${(event) => set(event.target.value)} />
    ${(scope === "route" || scope === "session") && html`<label for="route">${word("route")}</label><input id="route" name="route" defaultValue="ai/supervisor" required autocomplete="off" />`}
    ${(scope === "session" || scope === "tag") && html`<label for="named">${word(scope)}</label><input id="named" name=${scope} required maxlength="200" autocomplete="off" />`}
    <button type="submit">${word("invalidate")}</button></form>`;
}

function Turn({ sure, providers }) {
  const [state, set] = useState("open"), kinds = [...(providers.length ? ["provider"] : []), "circuit", "origin"];
  const [of, setOf] = useState(kinds[0]);
  const submit = submitted(({ turned, minutes }) => {
    const name = turned.trim(), who = of === "provider" ? name : word(`whose ${of}`, { name });
    sure(word(`sure ${state === "open" ? "open" : "close"}`, { who, minutes }),
      { action: "circuit", [of]: name, state, ...(state === "open" ? { seconds: Number(minutes) * 60 } : {}) });
  });
  return html`<form onSubmit=${submit}><h3>${word("circuitTitle")}</h3>
    <${Select} id="turn-of" label=${word("turnOf")} values=${kinds.map((each) => [each, word(`turn ${each}`)])} value=${of} onChange=${(event) => setOf(event.target.value)} />
    ${of === "provider" ? html`<${Select} id="turn-who" name="turned" label=${word("circuitOf")} values=${named(providers)} />`
      : html`<label for="turn-who">${word("turnName")}</label><input key=${of} id="turn-who" name="turned" required maxlength="200" autocomplete="off" />`}
    <${Select} id="turn-to" label=${word("what_")} values=${[["open", word("openCircuit")], ["closed", word("closeCircuit")]]} value=${state} onChange=${(event) => set(event.target.value)} />
    ${state === "open" && html`<label for="minutes">${word("minutes")}</label><input id="minutes" name="minutes" type="number" min="1" max="1440" defaultValue="10" required />`}
    <button type="submit">${word(state === "open" ? "openCircuit" : "closeCircuit")}</button></form>`;
}
