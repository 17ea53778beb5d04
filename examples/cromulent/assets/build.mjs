// Bundles js/app.js and css/app.css into priv/static/assets: node build.mjs [--minify] [--watch]
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const options = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  entryPoints: ["js/app.js", "css/app.css"],
  entryNames: "[name]",
  outdir: "../priv/static/assets",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: process.argv.includes("--minify"),
  sourcemap: process.argv.includes("--minify") ? false : "linked",
  logLevel: "info",
};

if (process.argv.includes("--watch")) {
  const context = await esbuild.context(options);
  await context.watch();
  // Phoenix closes the standard input of its watchers when it ends.
  process.stdin.on("end", () => context.dispose()).resume();
} else {
  await esbuild.build(options);
}
