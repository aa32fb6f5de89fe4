import { AttuneError } from "../core/errors.ts";
import { checkPath, type Store } from "./store.ts";

/** The files below a URL, to read a model from. Codes: `fetch-failed`. */
export function fetchFolder(url: string | URL): Pick<Store, "describe" | "read"> {
  const base = String(url).replace(/\/+$/, "");
  return {
    describe: base,
    async read(path) {
      const file = `${base}/${checkPath(path)}`;
      try {
        const response = await fetch(file);
        // A single-page server answers an unknown path with its index page, which is no file of a model.
        const page = response.headers.get("content-type")?.startsWith("text/html") ?? false;
        if (response.status === 404 || (response.ok && page)) {
          await response.body?.cancel();
          return undefined;
        }
        if (response.ok) return new Uint8Array(await response.arrayBuffer());
        throw new Error(`status ${response.status} ${response.statusText}`);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new AttuneError(
          "fetch-failed",
          `${file}: expected a file, got ${reason}; check the address and try again`,
          {
            cause,
          },
        );
      }
    },
  };
}
