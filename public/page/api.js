// What the page asks the deployment. Figures are asked for with the day's key, which opens nothing else; actions and
// questions to a chosen provider carry the token itself.

export class Refused extends Error {
  constructor(status) {
    super(String(status));
    this.status = status;
  }
}

// Times out, and throws Refused for 401 and 403.
export async function figures(path, token, values = {}) {
  const secure = globalThis.crypto?.subtle;
  const query = new URLSearchParams(secure ? { view: await viewKey(token), ...values } : values);
  const reply = await fetch(`${path}?${query}`, {
    headers: secure ? {} : { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(10_000), cache: "no-cache",
  });
  if (reply.status === 401 || reply.status === 403) throw new Refused(reply.status);
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  return reply.json();
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
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.detail ?? `status ${reply.status}`);
  return found.done;
}

// Asks a question; `heard` gets the text so far. Yields the reply's status, headers and body as far as they are known.
export async function ask(token, { query, provider, stream, noCache }, heard) {
  const headers = { "content-type": "application/json" };
  if (provider) Object.assign(headers, { "x-guard-provider": provider, authorization: `Bearer ${token}` });
  if (noCache) headers["cache-control"] = "no-cache";
  const began = performance.now();
  const reply = await fetch("/api/ai/supervisor", {
    method: "POST", headers, body: JSON.stringify({ query, sessionId: "playground", stream }),
  });
  const streamed = reply.headers.get("content-type")?.startsWith("text/event-stream");
  const body = streamed ? await readStream(reply.body, heard) : await reply.json();
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
