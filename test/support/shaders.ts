/// <reference types="vite/client" />

const files = import.meta.glob<string>("../../shaders/**/*.wgsl", { query: "?raw", import: "default", eager: true });

/** Every shader of the project as its file's text, by its path below shaders/, such as "softmax.wgsl". */
export const shaders: ReadonlyMap<string, string> = new Map(
  Object.entries(files).map(([path, source]) => [path.replace("../../shaders/", ""), source]),
);

/** A file of shared functions, without an entry point of its own. */
export const isCommon = (path: string): boolean => path.startsWith("common/");

/** The shader with the files in front that its `// needs: common/….wgsl` lines ask for. */
export function complete(source: string): string {
  const needed = [...source.matchAll(/^\/\/ needs: (\S+)$/gm)].map(([, path]) => {
    const text = shaders.get(path);
    if (text === undefined) throw new Error(`shaders/${path}, which a "// needs:" line names, does not exist`);
    return text;
  });
  return [...needed, source].join("\n");
}
