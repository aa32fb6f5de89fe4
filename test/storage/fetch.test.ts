import { afterEach, expect, it, vi } from "vitest";
import { fetchFolder } from "../../src/storage/fetch.ts";
import { codeOf, textOf } from "./suite.ts";

const answers: Record<string, () => Response> = {
  "http://host/m/config.json": () => new Response("{}", { headers: { "content-type": "application/json" } }),
  "http://host/m/index": () => new Response("<html>", { headers: { "content-type": "text/html; charset=utf-8" } }),
  "http://host/m/broken": () => new Response("", { status: 500, statusText: "Server Error" }),
};

afterEach(() => {
  vi.unstubAllGlobals();
});

it("reads files below a URL, and undefined for what the server does not have", async () => {
  const asked: string[] = [];
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(url);
    return Promise.resolve(answers[url]?.() ?? new Response("no", { status: 404 }));
  });
  const folder = fetchFolder("http://host/m/");
  expect(textOf(await folder.read("config.json"))).toBe("{}");
  expect(await folder.read("none")).toBeUndefined();
  expect(await folder.read("index")).toBeUndefined();
  expect(await codeOf(folder.read("broken"))).toBe("fetch-failed");
  expect(asked.length).toBe(4);
  expect(await codeOf(folder.read("../secret"))).toBe("store-path");
  expect(asked.length).toBe(4);
});

it("reports a server that cannot be reached, and why", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("connection refused")));
  const reading = fetchFolder("http://host/m").read("config.json");
  await expect(reading).rejects.toThrow("http://host/m/config.json: expected a file, got connection refused");
});
