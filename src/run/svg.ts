/** Curves of a run as a small SVG, readable on its own. */
import type { MetricsLine } from "./logs.ts";

const [WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM] = [640, 220, 64, 16, 34, 30]; // pixels

const COLORS = ["#1f6fb4", "#c2541b", "#2c8a4b"];

/** One panel for each metric of `labels` that the lines hold; steps run to the right. */
export function curvesSvg(
  title: string,
  lines: readonly MetricsLine[],
  labels: Readonly<Record<string, string>>,
  xLabel = "step",
  band?: { readonly low: readonly MetricsLine[]; readonly high: readonly MetricsLine[] },
): string {
  const curves = Object.entries(labels).map(([metric, label]) => ({
    label,
    points: pointsOf(lines, metric),
    band: band === undefined ? [] : [...pointsOf(band.low, metric), ...pointsOf(band.high, metric).toReversed()],
  }));
  const panels = curves.filter(({ points }) => points.length > 0).map((curve, i) =>
    panel({ ...curve, xLabel, color: COLORS[i % COLORS.length], top: TOP + i * (PANEL + 12) })
  );
  const height = TOP + panels.length * (PANEL + 12);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">\n` +
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>\n` +
    `<text x="${LEFT}" y="22" font-size="15" fill="#222222">${escape(title)}</text>\n${panels.join("")}</svg>\n`;
}

/** As {@link curvesSvg}, over the runs of several seeds: the mean as a line, all that the seeds span as a band. */
export function seedsSvg(
  title: string,
  runs: readonly (readonly MetricsLine[])[],
  labels: Readonly<Record<string, string>>,
  xLabel = "step",
): string {
  const shared = runs[0].filter(({ step }) => runs.every((lines) => lines.some((line) => line.step === step)));
  const over = (join: (values: readonly number[]) => number): MetricsLine[] =>
    shared.map(({ step, metrics }) => {
      const at = runs.map((lines) => lines.find((line) => line.step === step)?.metrics ?? {});
      return {
        step,
        metrics: Object.fromEntries(
          Object.keys(metrics).map((name) => [
            name,
            join(at.map((m) => m[name] ?? NaN)),
          ]),
        ),
      };
    });
  const mean = over((values) => values.reduce((a, b) => a + b, 0) / values.length);
  return curvesSvg(title, mean, labels, xLabel, {
    low: over((v) => Math.min(...v)),
    high: over((v) => Math.max(...v)),
  });
}

const pointsOf = (lines: readonly MetricsLine[], metric: string): [number, number][] =>
  lines.flatMap(({ step, metrics }): [number, number][] => {
    const y = metrics[metric];
    return typeof y === "number" ? [[step, y]] : [];
  });

interface Panel {
  readonly label: string;
  readonly xLabel: string;
  readonly points: readonly [number, number][];
  /** The outline of an area behind the curve; empty for none. */
  readonly band: readonly [number, number][];
  readonly color: string;
  /** Its upper edge in pixels. */
  readonly top: number;
}

function panel({ label, xLabel, points, band, color, top }: Panel): string {
  const xs = points.map(([x]) => x);
  const ys = [...points, ...band].map(([, y]) => y);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const yTicks = ticks(Math.min(...ys), Math.max(...ys));
  const [y0, y1] = [Math.min(yTicks[0], ...ys), Math.max(yTicks[yTicks.length - 1], ...ys)];
  const [plotTop, plotBottom] = [top + 22, top + PANEL - BOTTOM];
  const px = (x: number): string =>
    (LEFT + (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const py = (y: number): string =>
    (plotBottom - (y1 === y0 ? 0.5 : (y - y0) / (y1 - y0)) * (plotBottom - plotTop)).toFixed(1);

  const grid = yTicks.map((y) =>
    `<path d="M${LEFT} ${py(y)}H${WIDTH - RIGHT}" stroke="#e4e4e4"/>` +
    `<text x="${LEFT - 6}" y="${Number(py(y)) + 4}" text-anchor="end" fill="#555555">${showNumber(y)}</text>\n`
  );
  const steps = [...new Set(ticks(x0, x1).filter((x) => Number.isInteger(x) && x >= x0 && x <= x1))];
  const below = steps.map((x) =>
    `<text x="${px(x)}" y="${plotBottom + 16}" text-anchor="middle" fill="#555555">${x}</text>\n`
  );
  const pathOf = (line: readonly [number, number][]): string =>
    line.map(([x, y], i) => `${i === 0 ? "M" : "L"}${px(x)} ${py(y)}`).join("");
  const area = band.length === 0 ? "" : `<path d="${pathOf(band)}Z" fill="${color}" fill-opacity="0.15"/>\n`;
  return `<text x="${LEFT}" y="${top + 14}" fill="${color}">${escape(label)}</text>` +
    `<text x="${WIDTH - RIGHT}" y="${plotBottom + 28}" text-anchor="end" fill="#555555">${escape(xLabel)}</text>\n` +
    `${grid.join("")}${below.join("")}` +
    `<path d="M${LEFT} ${plotTop}V${plotBottom}H${WIDTH - RIGHT}" fill="none" stroke="#888888"/>\n` +
    area +
    `<path d="${pathOf(points)}" fill="none" stroke="${color}" stroke-width="1.8" stroke-linejoin="round"/>\n`;
}

/** About five round numbers that span [low, high]. */
export function ticks(low: number, high: number): number[] {
  if (!(high > low)) return [low];
  const raw = (high - low) / 4;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * magnitude).find((s) => s >= raw) ?? raw;
  const first = Math.floor(low / step);
  return Array.from(
    { length: Math.ceil(high / step) - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(12)),
  );
}

const showNumber = (y: number): string => {
  const size = Math.abs(y);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? y.toExponential(1) : String(Number(y.toPrecision(4)));
};

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
