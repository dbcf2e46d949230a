// Without a token: what this is, and the form for the token.
import { html } from "../html.js";
import { word } from "../language.js";

export const curl = (query = "which disk is fullest?") => `curl ${location.origin}/api/ai/supervisor \\
  -H 'content-type: application/json' \\
  -d '${JSON.stringify({ query, sessionId: "demo" })}'`;

export function About() {
  return html`<section class="card" aria-labelledby="about-title">
    <h2 id="about-title">${word("about")}</h2>
    <p>${word("aboutText")}</p>
    <p>${word("aboutUse")}</p>
    <pre tabindex="0" role="region" aria-label="curl"><code>${curl()}</code></pre>
    <p><a href="/api/health">${word("health")}</a></p>
  </section>`;
}

export function Enter({ why, enter }) {
  const submit = (event) => {
    event.preventDefault();
    const token = event.target.token.value.trim();
    event.target.reset();
    if (token) enter(token);
  };
  return html`<form class="card" onSubmit=${submit} aria-labelledby="enter-title">
    <h2 id="enter-title">${word("enter")}</h2>
    <p id="enter-hint">${word("enterHint")}</p>
    <label for="token">${word("token")}</label>
    <input id="token" name="token" type="password" autocomplete="current-password" aria-describedby="enter-hint enter-error" required />
    <p id="enter-error" class="error" role="alert">${why ? word(why) : ""}</p>
    <button type="submit" class="main">${word("open")}</button>
  </form>`;
}
