// The AI SDK over /api/v1. Arguments: its version (6 or 7), the base URL, a key, the provider's package. Prints one JSON object.
import { z } from "zod";

const [version, url, apiKey, kind] = process.argv.slice(2);
const suffix = version === "6" ? "-6" : "";
const { generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } = await import(`ai${suffix}`);
const { createOpenAICompatible } = await import(`@ai-sdk/openai-compatible${suffix}`);
const { createOpenAI } = await import(`@ai-sdk/openai${suffix}`);

const baseURL = `${url}/api/v1`;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({
  name: "breakwater",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = kind === "openai" ? openai.chat("supervisor") : compatible("supervisor");
const schema = z.object({ city: z.string(), degrees: z.number() });
const asked = { model, maxRetries: 0 };
const calls = (all) => all.map((each) => [each.toolCallId, each.toolName, each.input]);
const used = (usage) => [usage.inputTokens, usage.outputTokens, usage.inputTokenDetails?.cacheReadTokens];

function tools() {
  const run = [];
  const execute = async (input) => {
    run.push(input);
    return "scene: text";
  };
  return {
    run,
    tools: {
      weather: tool({ description: "Tell how warm it is.", inputSchema: z.object({ city: z.string() }), execute }),
      time: tool({ description: "Tell the time.", inputSchema: z.object({}), execute }),
    },
  };
}

async function text() {
  const { text, finishReason, usage } = await generateText({ ...asked, prompt: "scene: text" });
  return { text, finishReason, usage: used(usage) };
}

async function stream(prompt) {
  const result = streamText({ ...asked, prompt, onError: () => {} });
  const found = { text: "", error: null };
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") found.text += part.text;
    if (part.type === "error") found.error = part.error.message ?? JSON.stringify(part.error);
    if (part.type === "finish") Object.assign(found, { finishReason: part.finishReason, usage: used(part.totalUsage) });
  }
  return found;
}

async function toolLoop(streamed) {
  const { run, tools: given } = tools();
  const ask = { ...asked, prompt: "scene: tools", tools: given, stopWhen: stepCountIs(2) };
  const result = streamed ? streamText(ask) : await generateText(ask);
  const steps = await result.steps;
  return { run, text: await result.text, calls: calls(steps[0].toolCalls), reasons: steps.map((each) => each.finishReason) };
}

async function object(streamed) {
  const ask = { ...asked, schema, prompt: "scene: weather" };
  if (!streamed) return (await generateObject(ask)).object;
  const result = streamObject(ask);
  let last;
  for await (const partial of result.partialObjectStream) last = partial;
  return { whole: await result.object, last };
}

async function output(streamed) {
  const ask = { ...asked, output: Output.object({ schema }), prompt: "scene: weather" };
  if (!streamed) return (await generateText(ask)).output;
  const result = streamText(ask);
  let last;
  for await (const partial of result.partialOutputStream) last = partial;
  return { whole: await result.output, last };
}

async function image() {
  const content = [
    { type: "text", text: "scene: text" },
    { type: "image", image: "AAAA", mediaType: "image/png" },
  ];
  return (await generateText({ ...asked, messages: [{ role: "user", content }] })).text;
}

async function failure(ask) {
  try {
    await generateText({ ...ask, prompt: ask.prompt ?? "scene: bad value" });
  } catch (error) {
    return { status: error.statusCode, message: error.message };
  }
}

const found = {};
for (const when of ["first", "again"]) {
  found[when] = {
    text: await text(),
    stream: await stream("scene: text"),
    tools: await toolLoop(false),
    streamedTools: await toolLoop(true),
    object: await object(false),
    streamedObject: await object(true),
    output: await output(false),
    streamedOutput: await output(true),
    image: await image(),
  };
}
found.cut = await stream("scene: cut");
found.filtered = (await generateText({ ...asked, prompt: "scene: content filter" })).finishReason;
found.refused = await failure({ model });
found.responses = await failure({ model: openai("supervisor") });
console.log(JSON.stringify(found));
