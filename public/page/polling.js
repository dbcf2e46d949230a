// Reads again and again while somebody looks. What fails leaves the last value standing.
import { Refused } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";

const LONGEST_S = 300;

// Seconds until the next attempt, after so many failures in a row: the first `retries` soon, then later and later.
function waitOf({ failed, value }, { everyS, retries, retryS }) {
  const usualS = typeof everyS === "function" ? everyS(value) : everyS;
  if (!failed) return usualS;
  return failed <= retries ? retryS : Math.min(LONGEST_S, usualS * 2 ** (failed - retries - 1));
}

// Reads with `read` when `key` is another one, every `everyS` seconds, and when the page is shown again or is online
// again; never while it is hidden, never twice at once, and by itself not within `freshS` seconds of the last value.
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
    let timer = 0, asking = false, over = false, failed = 0, value = null, readAt = -Infinity;
    const ask = async () => {
      if (asking || document.hidden) return;
      asking = true;
      clearTimeout(timer);
      try {
        value = await latest.current.read();
        failed = 0;
        readAt = Date.now();
        if (!over) setFound({ key, value, error: null, failed });
      } catch (error) {
        failed += 1;
        if (error instanceof Refused && !over) latest.current.refused(error);
        else if (!over) setFound((before) => ({ key, value: before.key === key ? before.value : null, error, failed }));
      }
      asking = false;
      if (!over) timer = setTimeout(ask, 1000 * waitOf({ failed, value }, pace));
    };
    // Where what is known is fresh, the timer still runs.
    const look = () => { if (failed || Date.now() - readAt >= freshS * 1000) ask(); };
    again.current = ask;
    document.addEventListener("visibilitychange", look);
    addEventListener("online", look);
    ask();
    return () => { over = true; clearTimeout(timer); document.removeEventListener("visibilitychange", look); removeEventListener("online", look); };
  }, [key, everyS]);
  return { value: now.value, error: now.error, failed: now.failed, waitS: waitOf(now, pace), again: () => again.current() };
}
