"use client";

import { useEffect, useState } from "react";

/** An error as Breakwater reports it (RFC 9457). `retryAfter` is in seconds. */
type Problem = { code: string; detail: string; retryAfter?: number };

/** Says what went wrong and when to try again, and counts down to it. */
export function Notice({ error, onRetry }: { error: Error; onRetry: () => void }) {
  const problem = problemOf(error);
  const [left, setLeft] = useState(problem.retryAfter ?? 0);

  useEffect(() => {
    const endsAt = Date.now() + (problem.retryAfter ?? 0) * 1000;
    const timer = setInterval(() => setLeft(Math.max(0, Math.ceil((endsAt - Date.now()) / 1000))), 250);
    return () => clearInterval(timer);
  }, [problem.retryAfter]);

  return (
    <div role="alert" className={problem.code === "rate_limited" ? "calm" : "loud"}>
      <p>{HEADINGS[problem.code] ?? problem.detail}</p>
      <button type="button" onClick={onRetry} disabled={left > 0}>
        {left > 0 ? `Try again in ${left} s` : "Try again"}
      </button>
    </div>
  );
}

const HEADINGS: Record<string, string> = {
  rate_limited: "You have asked a lot in a short time.",
  circuit_open: "The AI is down. It is left alone for a while.",
  budget_spent: "The AI's budget is used up for now.",
  backend_failed: "The AI gave no usable answer.",
  backend_timeout: "The AI took too long.",
  unreachable: "The server cannot be reached.",
};

function problemOf(error: Error): Problem {
  try {
    // The transport's error has the body of the reply as its message.
    const body: unknown = JSON.parse(error.message);
    if (typeof body === "object" && body !== null && "code" in body) return body as Problem;
  } catch {
    // A stream that broke off says so in plain words; a failed connection is a TypeError.
  }
  return { code: error instanceof TypeError ? "unreachable" : "broken_off", detail: error.message };
}
