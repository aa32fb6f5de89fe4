import { defineConfig } from "vite";
import { wgsl } from "./tools/wgsl-plugin.ts";

// The demo: `npm run demo` serves it, `npm run build` writes it to dist/demo, to be put at any address.
export default defineConfig({
  root: "demo",
  base: "./",
  // The bundled models are files beside the page.
  publicDir: "../models",
  // Vite looks for packages in the page alone; one found later, in the worker, would load the page anew.
  optimizeDeps: { entries: ["index.html", "../workers/*.worker.ts"] },
  plugins: [wgsl()],
  worker: { format: "es", plugins: () => [wgsl()] },
  build: { outDir: "../dist/demo", emptyOutDir: true, target: "esnext" },
});
