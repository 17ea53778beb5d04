import assert from "node:assert/strict";
import { test } from "node:test";
import { answersOffer, firstMid, fragmentsOf, nameOffer, sessionOf } from "../../assets/js/sdp.js";

const sdp = (...lines) => [...lines, ""].join("\r\n");
const CHROMIUM = sdp(
  "v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=ice-ufrag:Ab+/", "a=mid:0",
  "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=ice-ufrag:Ab+/", "a=mid:1",
);
const FIREFOX = sdp("v=0", "o=mozilla...THIS_IS_SDPARTA-99.0 7291 0 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-ufrag:f1");

test("session, generations and first media section", () => {
  assert.deepEqual(sessionOf(CHROMIUM), { id: "4611731400430051336", version: "2" });
  assert.deepEqual(sessionOf(FIREFOX), { id: "7291", version: "0" });
  assert.deepEqual([fragmentsOf(CHROMIUM), fragmentsOf(FIREFOX)], [["Ab+/"], ["f1"]]);
  assert.deepEqual([firstMid(CHROMIUM), firstMid(FIREFOX)], ["0", null]);
  assert.deepEqual([sessionOf(""), fragmentsOf(""), sessionOf("o=- x y IN IP4 h")], [null, [], null]);
});

test("an answer names the offer that it answers, before the first media section", () => {
  const answer = nameOffer(CHROMIUM, FIREFOX);
  assert.deepEqual(answer.split("\r\n").filter((line) => !CHROMIUM.includes(line)), ["a=x-cromulent-offer:7291 0"]);
  assert.ok(answer.indexOf("x-cromulent") < answer.indexOf("m=audio"));
  assert.ok(answersOffer(answer, FIREFOX));
  assert.ok(!answersOffer(answer, CHROMIUM), "another's");
  assert.ok(!answersOffer(answer, FIREFOX.replace("7291 0", "7291 1")), "an earlier one");
});

test("without media, and without a name", () => {
  assert.ok(answersOffer(nameOffer(FIREFOX, CHROMIUM), CHROMIUM));
  assert.ok(answersOffer(CHROMIUM, FIREFOX), "a peer that names none is believed");
  assert.equal(nameOffer(CHROMIUM, "no session"), CHROMIUM);
  assert.ok(answersOffer(nameOffer(CHROMIUM, FIREFOX), "no session"));
});
