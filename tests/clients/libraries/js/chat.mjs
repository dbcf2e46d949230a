// What useChat does without a browser, by its transport. Arguments: the AI SDK's version (6 or 7), the base URL.
const [version, url] = process.argv.slice(2);
const { DefaultChatTransport, readUIMessageStream } = await import(version === "6" ? "ai-6" : "ai");

const transport = new DefaultChatTransport({ api: `${url}/api/ai/supervisor`, body: { plan: "free" } });
const chatId = `chat-of-${version}`;
const file = { type: "file", mediaType: "image/png", filename: "disk.png", url: "data:image/png;base64,AAAA" };
const said = (...parts) => ({ id: "m-1", role: "user", parts });
const text = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

async function send(messages, trigger = "submit-message") {
  const stream = await transport.sendMessages({ chatId, messages, trigger, messageId: undefined, abortSignal: undefined });
  let last;
  let error;
  for await (const message of readUIMessageStream({ stream, onError: (e) => (error = e.message), terminateOnError: false })) {
    last = message;
  }
  return { message: last, text: last && text(last), cached: last?.metadata?.cached, error };
}

const question = said({ type: "text", text: "scene: text" });
const found = {
  first: await send([question]),
  again: await send([question]),
  regenerated: await send([question], "regenerate-message"),
  attached: await send([said({ type: "text", text: "scene: text" }, file)]),
  cut: await send([said({ type: "text", text: "scene: cut" })]),
};
const { message } = found.first;
found.history = await send([question, message, { ...question, id: "m-2" }]);
found.resumed = await transport.reconnectToStream({ chatId });
console.log(JSON.stringify(found));
