// What one would put together on Node: two sliding windows of @upstash/ratelimit, an answer cached through
// @upstash/redis, and a circuit breaker around the backend; one statement after the other, as their documentation has it.
// With BENCH_AT_ONCE=1 the windows and the cached answer are asked for at once; the client puts together what it can.
"use strict";
const { createHash } = require("node:crypto");
const http = require("node:http");
const CircuitBreaker = require("opossum");
const { Ratelimit } = require("@upstash/ratelimit");
const { Redis } = require("@upstash/redis");

const redis = new Redis({
  url: process.env.KV_REST_API_URL,
  token: process.env.KV_REST_API_TOKEN,
  enableTelemetry: false,
});
const minute = new Ratelimit({ redis, limiter: Ratelimit.slidingWindow(10, "60 s"), prefix: "node:minute" });
const day = new Ratelimit({ redis, limiter: Ratelimit.slidingWindow(100, "1 d"), prefix: "node:day" });
const breaker = new CircuitBreaker(compute, { timeout: 60_000, errorThresholdPercentage: 50, resetTimeout: 60_000 });
const atOnce = process.env.BENCH_AT_ONCE === "1";

async function compute(query) {
  const reply = await fetch(process.env.CLOUD_RUN_AI_URL, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  return (await reply.json()).answer;
}

async function look(caller, key) {
  if (atOnce) {
    const [ofMinute, ofDay, found] = await Promise.all([minute.limit(caller), day.limit(caller), redis.get(key)]);
    return { refused: [ofMinute, ofDay].find((each) => !each.success), found };
  }
  for (const window of [minute, day]) {
    const counted = await window.limit(caller);
    if (!counted.success) return { refused: counted };
  }
  return { found: await redis.get(key) };
}

async function ask(request, send) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { query } = JSON.parse(Buffer.concat(chunks).toString());
  const caller = request.headers["x-vercel-forwarded-for"] ?? "unknown";
  const key = `node:answer:${createHash("sha256").update(`${caller}\0${query}`).digest("hex")}`;
  const { refused, found } = await look(caller, key);
  if (refused) {
    const waitS = Math.max(1, Math.ceil((refused.reset - Date.now()) / 1000));
    return send(429, { error: "too many requests" }, { "retry-after": waitS });
  }
  if (found !== null) return send(200, { answer: found, cached: true });
  const answer = await breaker.fire(query);
  send(200, { answer, cached: false });
  await redis.set(key, answer, { ex: 3600 });
}

const server = http.createServer((request, response) => {
  const send = (status, body, headers = {}) => {
    const content = JSON.stringify(body);
    const length = Buffer.byteLength(content);
    response.writeHead(status, { "content-type": "application/json", "content-length": length, ...headers });
    response.end(content);
  };
  ask(request, send).catch((error) => response.headersSent || send(500, { error: error.name }));
});
server.keepAliveTimeout = 120_000;
server.listen(Number(process.argv[2]), "127.0.0.1");
