// What useChat does, without a browser: its transport and its reader of messages. Arguments: the base URL.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const transport = new DefaultChatTransport({ api: `${process.argv[2]}/api/ai/supervisor` });
const said = (text) => ({ id: `m-${text.length}`, role: "user", parts: [{ type: "text", text }] });
const text = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

async function send(messages, trigger = "submit-message", abortSignal = undefined) {
  const stream = await transport.sendMessages({ chatId: "chat-1", messages, trigger, messageId: undefined, abortSignal });
  let last;
  let seen = 0;
  let error;
  for await (const message of readUIMessageStream({ stream, onError: (e) => (error = e), terminateOnError: false })) {
    last = message;
    seen += 1;
  }
  return { last, seen, error: error?.message };
}

const found = {};
const first = await send([said("How full is the disk?")]);
found.first = { text: text(first.last), seen: first.seen, role: first.last.role, metadata: first.last.metadata };

const again = await send([said("How full is the disk?")]);
found.again = { text: text(again.last), metadata: again.last.metadata };

const other = await send([said("How full is the disk?")], "regenerate-message");
found.regenerated = { text: text(other.last), metadata: other.last.metadata };

const more = await send([said("How full is the disk?"), first.last, said("And the memory?")]);
found.history = { text: text(more.last) };

const cut = await send([said("cut")]);
found.cut = { text: cut.last ? text(cut.last) : "", error: cut.error };

try {
  await send([said(" ")]);
} catch (error) {
  found.invalid = JSON.parse(error.message).code;
}
console.log(JSON.stringify(found));
