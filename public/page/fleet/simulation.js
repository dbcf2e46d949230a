// What an operator can do about simulated servers: start a scenario, and stop the one that runs.
import { Select, submitted } from "../acting.js";
import { html } from "../html.js";
import { word } from "../language.js";

const SCENARIOS = ["baseline", "cpu-storm", "disk-fill", "cascade", "silent"];

export function Start({ sure }) {
  const submit = submitted(({ scenario, minutes, seed }) => sure(word("fleet sureStart", { name: scenario, minutes }),
    { action: "simulate", state: "started", scenario, minutes: Number(minutes), seed: Number(seed) }));
  return html`<form class="start" onSubmit=${submit} aria-labelledby="start-title"><h3 id="start-title">${word("fleet start")}</h3>
    <${Select} id="scenario" label=${word("fleet whichScenario")} values=${SCENARIOS.map((each) => [each, word(`scenario ${each}`)])} />
    <label for="lasting">${word("minutes")}</label><input id="lasting" name="minutes" type="number" min="1" max="1440" defaultValue="60" required />
    <label for="seed">${word("fleet seed")}</label><input id="seed" name="seed" type="number" min="0" max=${Number.MAX_SAFE_INTEGER} defaultValue="1" required />
    <button type="submit">${word("fleet startIt")}</button></form>`;
}

export function Stop({ name, sure }) {
  const stop = () => sure(word("fleet sureStop", { name }), { action: "simulate", state: "stopped" });
  return html`<button type="button" onClick=${stop}>${word("fleet stop")}</button>`;
}
