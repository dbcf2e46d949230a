// Reads again and again while somebody looks. What fails leaves the last value standing.
import { Refused } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";

const LONGEST_S = 300, LONGEST_TOLD_S = 86_400;

// Seconds until the next attempt, after so many failures in a row: the first `retries` soon, then later and later, and
// never sooner than the API says.
function waitOf({ failed, error, value }, { everyS, retries, retryS }) {
  const usualS = typeof everyS === "function" ? everyS(value) : everyS;
  if (!failed) return usualS;
  const ownS = failed <= retries ? retryS : Math.min(LONGEST_S, usualS * 2 ** (failed - retries - 1));
  return Math.max(ownS, toldS(error));
}

// How long the API asks not to be asked: Retry-After of what failed.
const toldS = (error) => Math.min(LONGEST_TOLD_S, error?.retryAfter ?? 0);

// Reads with `read` when `key` is another one, every `everyS` seconds, and when the page is shown again or is online
// again; never while it is hidden, never twice at once, and by itself not within `freshS` seconds of the last value nor
// before the time that a refusal names.
// `everyS` may be a function of the last value, which is null before the first.
// Yields { value, error, failed, waitS, again }: the last value (null before the first), what the last attempt threw
// (null if it succeeded), how many failed in a row, the seconds until the next one, and a function that reads at once.
export function usePolling(read, { key, everyS, refused, freshS = 0, retries = 0, retryS = 5 }) {
  const [found, setFound] = useState({ key, value: null, error: null, failed: 0 });
  const latest = useRef(), again = useRef();
  latest.current = { read, refused };
  const now = found.key === key ? found : { key, value: null, error: null, failed: 0 };
  const pace = { everyS, retries, retryS };
  useEffect(() => {
    let timer = 0, asking = false, over = false, failed = 0, value = null, error = null, readAt = -Infinity, notBefore = 0;
    const ask = async () => {
      if (asking || document.hidden) return;
      asking = true;
      clearTimeout(timer);
      try {
        value = await latest.current.read();
        failed = 0;
        readAt = Date.now();
        if (!over) setFound({ key, value, error: null, failed });
      } catch (thrown) {
        failed += 1;
        error = thrown;
        notBefore = Date.now() + 1000 * toldS(error);
        if (error instanceof Refused && !over) latest.current.refused(error);
        else if (!over) setFound((before) => ({ key, value: before.key === key ? before.value : null, error, failed }));
      }
      asking = false;
      if (!over) timer = setTimeout(ask, 1000 * waitOf({ failed, error, value }, pace));
    };
    // Where what is known is fresh, or it is too early, the timer still runs.
    const look = () => { if (failed ? Date.now() >= notBefore : Date.now() - readAt >= freshS * 1000) ask(); };
    again.current = ask;
    document.addEventListener("visibilitychange", look);
    addEventListener("online", look);
    ask();
    return () => { over = true; clearTimeout(timer); document.removeEventListener("visibilitychange", look); removeEventListener("online", look); };
  }, [key, everyS]);
  return { value: now.value, error: now.error, failed: now.failed, waitS: waitOf(now, pace), again: () => again.current() };
}
