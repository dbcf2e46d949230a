// Admin actions of a view: each is asked about before it is done, and then it is said what became of it.
import { act, worded } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { word } from "./language.js";

// Yields { sure, said, question }: a function that asks before an action, with the words to ask in; what became of the
// last one; and the question. `afterwards` is called once an action is done.
export function useActions(token, afterwards) {
  const [{ asked, done }, set] = useState({ asked: null, done: "" });
  const answer = async (yes) => {
    set({ asked: null, done: "" });
    if (!yes) return;
    try {
      const what = await act(token, asked.action);
      set({ asked: null, done: word("done", { what }) });
      afterwards();
    } catch (error) {
      set({ asked: null, done: word("notDone", { why: worded(error) }) });
    }
  };
  return {
    sure: (text, action) => set({ asked: { text, action }, done: "" }),
    said: html`<div class="done" hidden=${!done}><p role="status">${done}</p><button type="button" onClick=${() => set({ asked: null, done: "" })}>${word("close")}</button></div>`,
    question: html`<${Confirm} asked=${asked} answer=${answer} />`,
  };
}

// Escape and the second button leave everything as it is.
function Confirm({ asked, answer }) {
  const dialog = useRef();
  useEffect(() => { if (asked && !dialog.current.open) dialog.current.showModal(); if (!asked && dialog.current.open) dialog.current.close(); }, [asked]);
  return html`<dialog ref=${dialog} aria-labelledby="sure" onCancel=${(event) => { event.preventDefault(); answer(false); }}>
    <p id="sure">${asked?.text}</p>
    <div class="tools"><button type="button" class="main" onClick=${() => answer(true)}>${word("confirm")}</button><button type="button" onClick=${() => answer(false)}>${word("cancel")}</button></div>
  </dialog>`;
}

// A form's values, by their names, for what is to be done with them.
export const submitted = (submit) => (event) => { event.preventDefault(); submit(Object.fromEntries(new FormData(event.target))); };

// A choice with its label; `values` are pairs of a value and its text.
export const Select = ({ id, label, values, name, ...rest }) => html`<label for=${id}>${label}</label><select id=${id} name=${name ?? id} ...${rest}>${values.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</select>`;
