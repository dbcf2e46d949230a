"use client";

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, type UIMessage } from "ai";
import { useMemo, useState } from "react";
import { Notice } from "./notice";

/** What Breakwater says about an answer, in the message's metadata. */
type Provenance = { cached?: boolean; stale?: boolean; provider?: string; saved?: { ms: number; tokens?: number } };
type Message = UIMessage<Provenance>;

const SUGGESTIONS = ["Which disk is fullest?", "How much memory is left?"];

export function Chat({ api }: { api: string }) {
  const transport = useMemo(() => new DefaultChatTransport<Message>({ api }), [api]);
  // The chat's id is the session. Answers are kept by caller and session, so that a reload finds them again.
  const { messages, sendMessage, regenerate, status, error } = useChat<Message>({ id: "nextjs-chat", transport });
  const [text, setText] = useState("");
  const busy = status === "submitted" || status === "streaming";

  const ask = (question: string) => {
    setText("");
    void sendMessage({ text: question });
  };

  return (
    <>
      <ol aria-label="Conversation" aria-live="polite">
        {messages.map((message) => (
          <li key={message.id} className={message.role}>
            {message.parts.map((part, at) => (part.type === "text" ? <p key={at}>{part.text}</p> : null))}
            {message.role === "assistant" && message.metadata && <small>{whence(message.metadata)}</small>}
          </li>
        ))}
      </ol>

      {error && <Notice key={messages.length} error={error} onRetry={() => void regenerate()} />}

      {messages.length === 0 && (
        <p className="suggestions">
          {SUGGESTIONS.map((each) => (
            <button key={each} type="button" onClick={() => ask(each)}>
              {each}
            </button>
          ))}
        </p>
      )}

      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) ask(text);
        }}
      >
        <label htmlFor="question">Question</label>
        <input id="question" value={text} onChange={(event) => setText(event.target.value)} autoComplete="off" />
        <button type="submit" disabled={busy}>
          Ask
        </button>
      </form>
    </>
  );
}

function whence({ cached, stale, provider, saved }: Provenance): string {
  if (stale) return "An older answer: the AI cannot be reached at the moment, or a newer one is on its way.";
  if (cached) return `From the cache${saved ? `, which saved ${saved.ms} ms` : ""}.`;
  return `Answered by ${provider ?? "the AI"}.`;
}
