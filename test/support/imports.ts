/** One import of a source file: the path as resolved from the project's root, or the bare name of a package. */
export interface Import {
  to: string;
  /** True for `import type`, which leaves nothing in the running program. */
  typeOnly: boolean;
}

const statement = /^[ \t]*(?:import|export)\s+(type\s+)?(?:[^"';]*?\sfrom\s+)?"([^"]+)"/gm;
const dynamic = /\bimport\(\s*"([^"]+)"|new URL\(\s*"([^"]+\.ts)",\s*import\.meta\.url/g;

/** Source text without its comments, so that prose about an import or a name does not count as one. */
export const withoutComments = (source: string): string =>
  source.replace(
    /"(?:[^"\\\n]|\\.)*"|\/\*[\s\S]*?\*\/|(^|\s)\/\/[^\n]*/g,
    (text, before) => text.startsWith('"') ? text : before ?? "",
  );

/**
 * Every import of one file: `import`, `export … from`, `import()` and the module URL of a worker.
 *
 * @param path of the file, from the project's root
 */
export function importsOf(path: string, source: string): Import[] {
  const code = withoutComments(source);
  const found: Import[] = [];
  for (const [, typeOnly, to] of code.matchAll(statement)) {
    found.push({ to: resolve(path, to), typeOnly: typeOnly !== undefined });
  }
  for (const [, imported, worker] of code.matchAll(dynamic)) {
    found.push({ to: resolve(path, imported ?? worker), typeOnly: false });
  }
  return found;
}

/** "src/ops/add.ts" and "../graph/sym.ts" give "src/graph/sym.ts"; a bare package name is left as it is. */
function resolve(from: string, to: string): string {
  return to.startsWith(".") ? new URL(to, `file:///${from}`).pathname.slice(1) : to;
}

/** Everything that the given files import, directly or through others, themselves included. */
export function closure(files: Iterable<string>, sources: ReadonlyMap<string, string>): Set<string> {
  const reached = new Set<string>();
  const waiting = [...files];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    const source = sources.get(path);
    if (source !== undefined) waiting.push(...importsOf(path, source).map(({ to }) => to));
  }
  return reached;
}

/**
 * A ring of files that import each other when the program runs, such as ["a.ts", "b.ts", "a.ts"]; undefined if there
 * is none. Type-only imports are free to form rings: two types may well name each other.
 */
export function findCycle(sources: ReadonlyMap<string, string>): string[] | undefined {
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    const source = sources.get(path);
    if (finished.has(path) || source === undefined) return undefined;
    for (const { to, typeOnly } of importsOf(path, source)) {
      const cycle = typeOnly ? undefined : visit(to, [...trail, path]);
      if (cycle) return cycle;
    }
    finished.add(path);
    return undefined;
  };
  for (const path of sources.keys()) {
    const cycle = visit(path, []);
    if (cycle) return cycle;
  }
  return undefined;
}
