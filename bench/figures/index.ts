import type { Figure } from "../measure.ts";
import { decodeFigure } from "./decode.ts";
import { matmulFigure } from "./matmul.ts";
import { trainStepFigure } from "./trainStep.ts";

/** What `npm run bench` measures, in order. */
export const figures: readonly Figure[] = [
  matmulFigure,
  trainStepFigure,
  decodeFigure,
];
