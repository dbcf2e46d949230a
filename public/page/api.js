// What the page asks the deployment. Figures are asked for with the day's key, which changes nothing; actions and
// questions to a chosen provider carry the token itself.
import { word } from "./language.js";

// What the API refused or could not do: its status, the code and detail of its problem, and after how many seconds it
// may be asked again (0: it does not say).
export class Failed extends Error {
  constructor(status, { code = "", detail = "", retryAfter = 0 } = {}) {
    super(`status ${status}`);
    Object.assign(this, { status, code, detail, retryAfter });
  }
}

// The token opens nothing: 401 and 403.
export class Refused extends Failed {}

// What went wrong, in words.
export function worded(error) {
  if (error instanceof TypeError || error.name === "TimeoutError") return word("offline");
  if (!(error instanceof Failed)) return error.message;
  return error.status === 429 ? word("tooMany") : word("server", { status: error.status });
}

// Whether a token is a signed-in user's, whose roles are in it. It opens what its roles open, and never the overview.
export const isUsers = (token) => /^ey[\w-]+\.[\w-]+\.[\w-]+$/.test(token ?? "");

// How a request shows that it may read: by the day's key in the address, so that an edge can answer. A user's token has
// no such key, and neither has a page without https. `past` an edge it goes with the token itself.
async function access(token, past = false) {
  const byHeader = past || isUsers(token) || !globalThis.crypto?.subtle;
  return byHeader ? { query: {}, headers: { authorization: `Bearer ${token}` } } : { query: { view: await viewKey(token) }, headers: {} };
}

// Times out, and throws Refused for 401 and 403, Failed for every other error.
export async function figures(path, token, values = {}, past = false) {
  const { query, headers } = await access(token, past);
  const reply = await fetch(`${path}?${new URLSearchParams({ ...query, ...values })}`, {
    headers, signal: AbortSignal.timeout(10_000), cache: "no-cache",
  });
  if (!reply.ok) throw await failureOf(reply);
  return reply.json();
}

async function failureOf(reply) {
  const problem = await reply.json().catch(() => ({})), kind = reply.status === 401 || reply.status === 403 ? Refused : Failed;
  // Of an edge in front of the API, which has no problem in its body, it may be a date.
  const retryAfter = Number(reply.headers.get("retry-after")) || 0;
  return new kind(reply.status, { ...problem, retryAfter });
}

async function viewKey(token) {
  const bytes = new TextEncoder(), day = new Date().toISOString().slice(0, 10);
  const key = await crypto.subtle.importKey("raw", bytes.encode(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signed = await crypto.subtle.sign("HMAC", key, bytes.encode(`breakwater overview ${day}`));
  return `${day}.${Array.from(new Uint8Array(signed), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// Carries out an admin action; yields what was done, and throws an Error that says why not.
export async function act(token, action) {
  const reply = await fetch("/api/admin", {
    method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify(action), signal: AbortSignal.timeout(15_000),
  });
  if (!reply.ok) {
    const failed = await failureOf(reply);
    throw failed.detail ? new Error(failed.detail) : failed;
  }
  return (await reply.json()).done;
}

// Has a statement explained; `heard` gets the text so far. Yields the whole text, and what is told of it. Throws Failed.
export async function analyze(token, asked, heard) {
  const { query, headers } = await access(token);
  const reply = await fetch(`/api/llm/analyze?${new URLSearchParams(query)}`, {
    method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify({ ...asked, stream: true }),
  });
  if (!reply.ok) throw await failureOf(reply);
  return readStream(reply.body, heard);
}

// Asks a question; `heard` gets the text so far. Yields the reply's status, headers and body as far as they are known.
// `fleet`: true, or "simulated", has the figures of servers go along, which only those who may see them can ask for.
export async function ask(token, { query, provider, stream, noCache, fleet }, heard) {
  const opened = fleet ? await access(token) : { query: {}, headers: {} }, headers = { ...opened.headers, "content-type": "application/json" };
  if (provider) Object.assign(headers, { "x-guard-provider": provider, authorization: `Bearer ${token}` });
  if (noCache) headers["cache-control"] = "no-cache";
  const began = performance.now();
  const asked = { query, sessionId: fleet ? "fleet" : "playground", stream, ...(fleet ? { parameters: { fleet } } : {}) };
  const reply = await fetch(`/api/ai/supervisor${fleet ? `?${new URLSearchParams(opened.query)}` : ""}`, {
    method: "POST", headers, body: JSON.stringify(asked),
  });
  const streamed = reply.headers.get("content-type")?.startsWith("text/event-stream");
  // What an edge says in the place of the API is no JSON.
  const body = streamed ? await readStream(reply.body, heard) : await reply.json().catch(() => ({ detail: word("server", { status: reply.status }) }));
  return { status: reply.status, headers: Object.fromEntries(reply.headers), body, ms: performance.now() - began };
}

// The AI SDK's UI message stream: the text, and what its metadata say.
async function readStream(stream, heard) {
  const found = { answer: "" };
  let rest = "";
  for await (const chunk of chunks(stream.pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.type === "text-delta") heard((found.answer += event.delta));
      if (event.type === "error") found.broken = true;
      Object.assign(found, event.messageMetadata);
    }
  }
  return found;
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}
