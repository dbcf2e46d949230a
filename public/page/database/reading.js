// What is read of a database: all that is shown at once by one call, texts and trends by calls of their own, as they
// change far less often.
import { Failed, figures } from "../api.js";
import { useEffect, useState } from "../html.js";

export const MOST_STATEMENTS = 20; // as many texts as one call takes
const VIEWS = ["realtime", "dashboard", "sessions", "locks", "wait-events"];

// A parameter is encoded once for the list, and once more by the address.
const named = (...parts) => parts.map(encodeURIComponent).join(":");

async function batch(token, names, anew) {
  return figures("/api/data", token, { resources: names.join(","), ...(anew ? { refresh: "1" } : {}) });
}

// All that is shown of a connection ("": of the first one), as { connections, id, views }. A view is { value, error }, by
// the name of its route; `error` is a problem of the API. `id` is null where there is no connection, and `views` where
// there is none of this id. `anew` asks for figures of this second.
export async function readAll(token, wanted, anew) {
  const id = wanted || (await connectionsOf(token))[0]?.id;
  if (!id) return { connections: [], id: null, views: null };
  const top = named("sql-statistics", id, MOST_STATEMENTS), names = ["connections", ...VIEWS.map((each) => named(each, id)), top];
  try {
    const { values, errors } = await batch(token, names, anew);
    const views = Object.fromEntries(names.slice(1).map((each) => [each.split(":")[0], { value: values[each] ?? null, error: errors[each] ?? null }]));
    return { connections: values.connections?.connections ?? [], id, views };
  } catch (error) {
    if (!(error instanceof Failed) || error.status !== 404) throw error;
    return { connections: await connectionsOf(token), id, views: null };
  }
}

async function connectionsOf(token) {
  return (await batch(token, ["connections"])).values.connections?.connections ?? [];
}

// The trend of a period. Throws Failed.
export async function readTrend(token, id, period) {
  const name = named("trend", id, period), { values, errors } = await batch(token, [name]);
  if (errors[name]) throw new Failed(errors[name].status, errors[name]);
  return values[name];
}

// The texts of statements by their ids: null where nobody may see it or it is gone, nothing while it is on its way. A
// text of an id never changes; what could not be read is asked for again with the next figures (`at`).
export function useTexts(token, connection, statements, at) {
  const [known, learn] = useState({ connection, texts: {} });
  const texts = known.connection === connection ? known.texts : {};
  const missing = statements.map((each) => each.id).filter((id) => !(id in texts));
  useEffect(() => {
    if (!missing.length) return undefined;
    let over = false;
    readTexts(token, connection, missing).then((found) => {
      if (!over) learn((before) => ({ connection, texts: { ...(before.connection === connection ? before.texts : {}), ...found } }));
    }, () => { /* the next figures come in half a minute, and so does the next attempt */ });
    return () => { over = true; };
  }, [connection, missing.join(), at]);
  return texts;
}

async function readTexts(token, connection, ids) {
  const names = ids.map((id) => named("sql-text", id, connection)), { values, errors } = await batch(token, names);
  const known = ids.map((id, place) => [id, values[names[place]]?.text ?? null, errors[names[place]]]);
  return Object.fromEntries(known.filter(([, , error]) => !error || error.code === "not_found").map(([id, text]) => [id, text]));
}
