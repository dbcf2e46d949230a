// The OpenAI SDK over /api/v1, as its users use it. Arguments: the base URL, a key. Prints one JSON object.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/api/v1`, apiKey, maxRetries: 0 });
const { completions } = client.chat;
const asked = (scene, ...parts) => ({
  model: "supervisor",
  messages: [{ role: "user", content: [{ type: "text", text: `scene: ${scene}` }, ...parts] }],
});
const response_format = zodResponseFormat(z.object({ city: z.string(), degrees: z.number() }), "weather");
const weather = { type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } };
const calls = (message) => (message.tool_calls ?? []).map((each) => [each.id, each.type, each.function.name, each.function.arguments]);

async function parsed() {
  const { choices, usage } = await completions.parse({ ...asked("weather"), response_format });
  return { object: choices[0].message.parsed, usage: usage.total_tokens };
}

async function streamed(scene, more = {}) {
  const stream = completions.stream({ ...asked(scene), ...more });
  const { choices, system_fingerprint } = await stream.finalChatCompletion();
  const { message, finish_reason } = choices[0];
  return { text: message.content, calls: calls(message), object: message.parsed, finish_reason, system_fingerprint };
}

async function run() {
  const seen = [];
  const tool = (name) => ({
    type: "function",
    function: { name, parameters: { type: "object", properties: {} }, parse: JSON.parse, function: (input) => (seen.push(input), "scene: text") },
  });
  const runner = completions.runTools({ ...asked("tools"), tools: [tool("weather"), tool("time")] });
  return { text: await runner.finalContent(), seen };
}

async function refused(ask) {
  try {
    await ask(new OpenAI({ baseURL: `${url}/api/v1`, apiKey }));
    return null;
  } catch (error) {
    return { name: error.constructor.name, code: error.code, param: error.param, message: error.message };
  }
}

const found = {};
for (const when of ["first", "again"]) {
  found[when] = {
    parsed: await parsed(),
    streamed: await streamed("weather", { response_format }),
    tools: await streamed("tools", { tools: [weather] }),
    atOnce: await streamed("tools at once", { tools: [weather] }),
    run: await run(),
  };
}
const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"A".repeat(1_000_000)}` } };
found.image = (await completions.create(asked("text", image))).choices[0].message.content;
found.refusal = (await completions.create(asked("refusal"))).choices[0].message.refusal;
found.models = (await client.models.list()).data.map((each) => each.id);
found.errors = {
  value: await refused((again) => again.chat.completions.create(asked("bad value"))),
  failure: await refused((again) => again.chat.completions.create(asked("html"))),
  cut: await refused(async (again) => {
    for await (const _ of await again.chat.completions.create({ ...asked("cut"), stream: true }));
  }),
  responses: await refused((again) => again.responses.create({ model: "m", input: "hello" })),
};
console.log(JSON.stringify(found));
