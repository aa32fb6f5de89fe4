import { defineConfig } from "vite";
import { wgsl } from "./tools/wgsl-plugin.ts";

// The demo: `npm run demo` serves it, `npm run build` writes it to dist/demo, to be put at any address.
export default defineConfig({
  root: "demo",
  base: "./",
  plugins: [wgsl()],
  worker: { format: "es", plugins: () => [wgsl()] },
  build: { outDir: "../dist/demo", emptyOutDir: true, target: "esnext" },
});
