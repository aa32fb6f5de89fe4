/** Paths and file URLs. */
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const fromFileUrl = (url: URL): string => fileURLToPath(url);

/** The URL of a path that may be relative to the current folder. */
export const resolveUrl = (path: string): URL => pathToFileURL(resolve(path));

/** runs/NAME-1, or the first number that is free. */
export function nextRunFolder(name: string): string {
  for (let i = 1;; i++) {
    const folder = `runs/${name}-${i}`;
    if (!exists(folder)) return folder;
  }
}

export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

export const isFolder = (path: string): boolean => exists(path) && Deno.statSync(path).isDirectory;

/** Removes a folder, and the one around it, if they are empty. */
export function removeIfEmpty(folder: string): void {
  for (const path of [folder, folder.slice(0, Math.max(0, folder.lastIndexOf("/")))]) {
    try {
      if (path !== "") Deno.removeSync(path);
    } catch {
      return; // it holds something, or never was there
    }
  }
}
