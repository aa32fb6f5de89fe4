/** The kernels that tuning chose, kept in the browser's store: timing them again would cost seconds at each start. */
import type { TuningTable } from "../src/gpu/tune.ts";
import { idbStore } from "../src/storage/idb.ts";
import { type Store, within } from "../src/storage/store.ts";

const place = (): Store => within(idbStore(), "tuning");

const fileOf = (adapter: string): string => `${adapter.replace(/[^\w]+/g, "-").slice(0, 128)}.json`;

/** What an earlier run has learned of this adapter. Kernels that no longer exist are timed again. */
export async function loadTuning(adapter: string): Promise<TuningTable> {
  const bytes = await place().read(fileOf(adapter));
  return bytes === undefined ? {} : JSON.parse(new TextDecoder().decode(bytes));
}

export const saveTuning = (adapter: string, table: TuningTable): Promise<void> =>
  place().write(fileOf(adapter), new TextEncoder().encode(JSON.stringify(table)));
