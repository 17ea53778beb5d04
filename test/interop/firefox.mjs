// What the page does that firefox.py opens: a call from one end in it to the other.
import { LoopbackCall } from "/loopback_call.js";
import { selectedPair } from "/stats.js";

const tell = (step, more) =>
  fetch("/told", { method: "POST", body: JSON.stringify({ step, ...more }) });

const opened = (channel) =>
  new Promise((resolve) => channel.addEventListener("open", resolve, { once: true }));

/** Numbered messages of many sizes both ways, all at once; how many came in order and whole. */
async function exchange(ends, count) {
  const message = (end, i) => `${end}:${i}:${"x".repeat((i * 37) % 1000)}`;
  const arrived = ends.map((channel, index) => {
    let got = 0;
    return new Promise((resolve) => {
      channel.addEventListener("message", ({ data }) => {
        if (data === message(1 - index, got)) got += 1;
        if (got === count) resolve(got);
      });
      setTimeout(() => resolve(got), 20_000);
    });
  });
  for (let i = 0; i < count; i++) ends.forEach((end, index) => end.send(message(index, i)));
  return Promise.all(arrived);
}

const ofType = (report, type) => [...report.values()].filter((stats) => stats.type === type);

function summary(report) {
  const pair = selectedPair(report);
  const candidates = ofType(report, "local-candidate");
  return {
    pair: pair && { local: pair.local.type, remote: `${pair.remote.address}:${pair.remote.port}` },
    candidates: [...new Set(candidates.map((c) => c.candidateType))],
    relayed: candidates.map((c) => `${c.address}:${c.port}`),
    bytesSent: ofType(report, "candidate-pair").reduce((sum, p) => sum + (p.bytesSent ?? 0), 0),
    audio: ofType(report, "inbound-rtp").reduce((sum, s) => sum + (s.packetsReceived ?? 0), 0),
  };
}

/** Both ends' figures, once sound has come to both. */
async function figures(call) {
  for (const deadline = Date.now() + 20_000; ; ) {
    const { caller, callee } = await call.stats();
    const ends = [caller, callee].map(summary);
    if (ends.every(({ audio }) => audio >= 25) || Date.now() > deadline) return ends;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function run() {
  const { servers, messages: count } = await (await fetch("/task")).json();
  // Firefox's own tone: where there is no sound device, it lets no AudioContext run.
  const [track] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks();
  const call = new LoopbackCall(servers, { policy: "relay", track });
  const channels = call.channel("messages");
  // Firefox tells of a call's channels one after the other.
  await Promise.all([call.connect({ timeout: 30_000 }), ...channels.map(opened)]);
  const got = await exchange(channels, count);
  await tell("connected");
  const ends = await figures(call);
  await tell("called", { ends: ends.map((end, index) => ({ ...end, got: got[index] })) });
  call.close();
  track.stop();
  await tell("closed");
}

run().catch((error) => tell("error", { error: `${error.name}: ${error.message}` }));
