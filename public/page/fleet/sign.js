// A server's level in form and words, so that neither depends on its colour.
import { html } from "../html.js";
import { lasting, list, word } from "../language.js";

const FORMS = {
  silent: "M8 2h8l6 6v8l-6 6H8l-6-6V8zM8.5 8.5l7 7M15.5 8.5l-7 7",
  high: "M12 2.5L22.5 21H1.5zM12 9v6M12 17.8v.4",
  late: "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM12 6.5V12l4 2.5",
  online: "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM7 12l3.5 3.5L17 9",
};

export const Sign = ({ level }) => html`<svg class="sign" viewBox="0 0 24 24" aria-hidden="true"><path d=${FORMS[level]} /></svg>`;

// `at`: when the figures were read.
export function stateText(server, at) {
  const since = lasting(at - server.at), high = word("server high", { what: list(server.high.map((name) => word(`metric ${name}`))) });
  if (server.status === "online") return server.high.length ? high : word("server online");
  const quiet = word(`server ${server.status}`, { since });
  return server.status === "late" && server.high.length ? `${high}; ${quiet}` : quiet;
}
