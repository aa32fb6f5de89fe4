/** Live curves: one uPlot chart a metric, redrawn at most once a frame. */
import uPlot from "uplot";
import type { Curve } from "./algorithms.ts";
import { byId, make, perFrame, short } from "./dom.ts";

/** How far the x axis reaches before it grows with the curve. */
const FIRST_SPAN = 10;

export interface Charts {
  /** Takes down what was shown, and sets up empty charts. */
  reset(curves: readonly Curve[], x: XAxis): void;
  /** Adds a point to every curve that `values` has a number for. */
  add(x: number, values: Readonly<Record<string, number | null | undefined>>): void;
  /** Replaces all points. */
  set(rows: readonly { readonly x: number; readonly values: Readonly<Record<string, number>> }[]): void;
}

export interface XAxis {
  readonly label: string;
  /** Where the axis begins, and where the last point will be. */
  readonly from: number;
  readonly to: number;
}

interface Panel {
  readonly curve: Curve;
  readonly figure: HTMLElement;
  readonly host: HTMLElement;
  readonly value: HTMLElement;
  readonly color: string;
  readonly xs: number[];
  readonly ys: number[];
  plot: uPlot | undefined;
}

export function createCharts(): Charts {
  const box = byId("charts");
  let panels: Panel[] = [];
  let axis: XAxis = { label: "step", from: 0, to: 1 };

  const redraw = perFrame(() => {
    for (const panel of panels) {
      panel.plot?.setData([panel.xs, panel.ys]);
      showValue(panel, axis.label, panel.xs.length - 1);
      panel.figure.setAttribute("aria-label", describe(panel, axis.label));
    }
  });
  /** Colours and sizes are drawn into the canvas, so charts are made anew when they change. */
  const rebuild = perFrame(() => {
    for (const panel of panels) {
      panel.plot?.destroy();
      panel.plot = plotOf(panel, axis);
    }
    redraw();
  });

  const resized = new ResizeObserver(() => {
    for (const { plot, host } of panels) {
      if (plot === undefined || (plot.width === host.clientWidth && plot.height === host.clientHeight)) continue;
      plot.setSize({ width: host.clientWidth, height: host.clientHeight });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);

  const push = (x: number, values: Readonly<Record<string, number | null | undefined>>): void => {
    for (const { curve, xs, ys } of panels) {
      const y = values[curve.metric];
      if (typeof y !== "number" || !Number.isFinite(y)) continue;
      xs.push(x);
      ys.push(y);
    }
  };

  return {
    reset(curves, x) {
      resized.disconnect();
      panels.forEach(({ plot }) => plot?.destroy());
      axis = x;
      panels = curves.map((curve, i) => panelOf(curve, `--curve-${i + 1}`));
      box.replaceChildren(...panels.map(({ figure }) => figure));
      panels.forEach(({ host }) => resized.observe(host));
      rebuild();
    },
    add(x, values) {
      push(x, values);
      redraw();
    },
    set(rows) {
      for (const { xs, ys } of panels) xs.length = ys.length = 0;
      for (const { x, values } of rows) push(x, values);
      redraw();
    },
  };
}

function panelOf(curve: Curve, color: string): Panel {
  const value = make("span", { class: "value" });
  const host = make("div", { class: "plot" });
  const caption = make("figcaption", {}, make("span", { text: curve.title }), value);
  const figure = make("figure", { role: "img" }, caption, host);
  return { curve, figure, host, value, color, xs: [], ys: [], plot: undefined };
}

function plotOf(panel: Panel, x: XAxis): uPlot {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: color("--muted"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  return new uPlot(
    {
      width: panel.host.clientWidth,
      height: panel.host.clientHeight,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: {
          time: false,
          range: (_, __, last) => [x.from, Math.max(last ?? x.from, x.from + Math.min(FIRST_SPAN, x.to - x.from))],
        },
        y: { range: rangeOfY },
      },
      axes: [
        { ...axis, size: 30, space: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
        {
          ...axis,
          size: 52,
          space: 40,
          values: (_, ticks) => ticks.map((y) => String(Number(y.toPrecision(6))).replace("-", "−")),
        },
      ],
      series: [{}, { stroke: color(panel.color), width: 2, points: { show: () => panel.xs.length === 1 } }],
      hooks: {
        setCursor: [({ cursor: { idx } }) => showValue(panel, x.label, idx ?? panel.xs.length - 1)],
      },
    },
    [panel.xs, panel.ys],
    panel.host,
  );
}

/** Empty charts get an axis too. */
const rangeOfY: uPlot.Range.Function = (_, low: number | null, high: number | null) =>
  low === null || high === null ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true);

function showValue({ value, xs, ys }: Panel, xName: string, i: number): void {
  value.textContent = i < 0 || i >= ys.length ? "" : `${short(ys[i])} at ${xName} ${xs[i]}`;
}

function describe({ curve, xs, ys }: Panel, xName: string): string {
  if (ys.length === 0) return `${curve.title}: nothing yet`;
  const last = ys.length - 1;
  return `${curve.title}: ${short(ys[0])} at ${xName} ${xs[0]}, ${short(ys[last])} at ${xName} ${xs[last]}`;
}
