// Reads again and again while somebody looks. What fails leaves the last value standing; the next attempt waits longer.
import { Refused } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";

const LONGEST_S = 300;

// Reads with `read` when `key` is another one, every `everyS` seconds, and when the page is shown again; never while it
// is hidden. Yields { value, error, waitS, again }: the last value (null before the first), what the last attempt threw
// (null if it succeeded), the seconds until the next one, and a function that reads at once.
export function usePolling(read, { key, everyS, refused }) {
  const [found, setFound] = useState({ key, value: null, error: null, failed: 0 });
  const latest = useRef(), again = useRef();
  latest.current = { read, refused };
  const now = found.key === key ? found : { key, value: null, error: null, failed: 0 };
  const waitS = now.failed ? Math.min(LONGEST_S, everyS * 2 ** (now.failed - 1)) : everyS;
  useEffect(() => {
    let timer = 0, asking = false, over = false, failed = 0;
    const ask = async () => {
      if (asking || document.hidden) return;
      asking = true;
      clearTimeout(timer);
      try {
        const value = await latest.current.read();
        failed = 0;
        if (!over) setFound({ key, value, error: null, failed });
      } catch (error) {
        failed += 1;
        if (error instanceof Refused && !over) latest.current.refused(error);
        else if (!over) setFound((before) => ({ key, value: before.key === key ? before.value : null, error, failed }));
      }
      asking = false;
      if (!over) timer = setTimeout(ask, 1000 * (failed ? Math.min(LONGEST_S, everyS * 2 ** (failed - 1)) : everyS));
    };
    again.current = ask;
    document.addEventListener("visibilitychange", ask);
    ask();
    return () => { over = true; clearTimeout(timer); document.removeEventListener("visibilitychange", ask); };
  }, [key, everyS]);
  return { value: now.value, error: now.error, waitS, again: () => again.current() };
}
