import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const ROOT = new URL("../../", import.meta.url);
const read = (path) => readFile(new URL(path, ROOT), "utf8");

// Phoenix's esbuild finds the first by NODE_PATH; the second is for npm's "file:".
for (const path of ["package.json", "assets/package.json"]) {
  test(`${path}: the version, and one name for the modules`, async () => {
    const { name, version, main, exports } = JSON.parse(await read(path));
    assert.deepEqual([name, version], ["cromulent_turn", (await read("VERSION")).trim()]);
    assert.equal(exports["."], main);
    const modules = await import(new URL(main, new URL(path, ROOT)));
    for (const each of ["VoiceRoom", "VoiceError", "createVoiceHook", "createSpeaker", "checkIceServers"]) {
      assert.equal(typeof modules[each], "function", each);
    }
  });
}
