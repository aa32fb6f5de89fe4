/** Small helpers for the page's elements. */
import { assert } from "../src/core/errors.ts";

/** The element with that id, which index.html holds. */
export function byId<K extends keyof HTMLElementTagNameMap>(id: string, tag: K): HTMLElementTagNameMap[K];
export function byId(id: string): HTMLElement;
export function byId(id: string, tag?: string): HTMLElement {
  const found = document.getElementById(id);
  assert(
    found !== null && (tag === undefined || found.localName === tag),
    `the page has no ${tag ?? "element"} #${id}`,
  );
  return found;
}

/** A new element with attributes (`text` is its text) and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly Node[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Draws in the next frame, once however often it is asked for. */
export function perFrame(draw: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** A number in a few digits, with a real minus. */
export const short = (x: number): string => withMinus(Math.abs(x) < 0.0005 ? "0" : String(Number(x.toPrecision(3))));

export const hundredths = (x: number): string => withMinus(x.toFixed(2));

const withMinus = (digits: string): string => digits.replace("-", "−");
