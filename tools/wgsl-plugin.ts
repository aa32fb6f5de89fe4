import { readFile } from "node:fs/promises";
import type { Plugin } from "vite";

/**
 * Lets Vite and Vitest read `import source from "./x.wgsl" with { type: "text" }`, which Deno does natively.
 * Without it the bundler takes the shader for JavaScript.
 */
export const wgsl = (): Plugin => ({
  name: "wgsl-text",
  enforce: "pre",
  load: {
    filter: { id: /\.wgsl(\?import)?$/ },
    async handler(id) {
      const file = id.replace(/\?.*$/, "");
      this.addWatchFile(file);
      return { code: `export default ${JSON.stringify(await readFile(file, "utf8"))};`, map: null, moduleType: "js" };
    },
  },
});
