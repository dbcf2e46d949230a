// One of a few: shown side by side, chosen by pointer or arrow keys. The words are "<name>" and "<name> <value>".
import { html } from "./html.js";
import { word } from "./language.js";

// `counts`: how much each value would show, where that is known.
export function Picks({ name, values, value, pick, counts }) {
  return html`<fieldset class="pick"><legend>${word(name)}</legend>${values.map((each) => html`<label key=${each}>
    <input type="radio" name=${name} value=${each} checked=${each === value} onChange=${() => pick(each)} />
    <span>${word(`${name} ${each}`, { count: counts?.[each] })}</span></label>`)}</fieldset>`;
}
