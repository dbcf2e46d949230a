// The official OpenAI SDK against /api/v1/chat/completions. Arguments: the base URL. Prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/api/v1`, apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: "How full is the disk?" }];
const found = {};

const { data, response } = await client.chat.completions.create({ model: "supervisor", messages }).withResponse();
found.whole = { text: data.choices[0].message.content, finish: data.choices[0].finish_reason, object: data.object };
found.cache = response.headers.get("x-cache");

const stream = await client.chat.completions.create({
  model: "supervisor",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
found.streamed = { text: "", chunks: 0 };
for await (const chunk of stream) {
  found.streamed.text += chunk.choices[0]?.delta?.content ?? "";
  found.streamed.chunks += 1;
  found.streamed.finish = chunk.choices[0]?.finish_reason ?? found.streamed.finish;
  found.streamed.usage = chunk.usage ?? found.streamed.usage;
}

async function failure(body) {
  try {
    const answer = await client.chat.completions.create(body);
    if (body.stream) for await (const _ of answer);
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, type: error.type, param: error.param };
  }
}

found.invalid = await failure({ model: "supervisor", messages: [] });
found.cut = await failure({ model: "supervisor", messages: [{ role: "user", content: "cut" }], stream: true });
for (let number = 0; number < 10; number += 1) found.limited = await failure({ model: "supervisor", messages });
console.log(JSON.stringify(found));
