/** The demo page: it shows and asks; the worker does everything else. */
import { AttuneError } from "../src/core/errors.ts";
import { createTrainer, type RunEnd, type SavedRun, type TrainerEvent } from "../workers/client.ts";
import { isChoice, offers } from "./algorithms.ts";
import { createCharts } from "./charts.ts";
import { byId } from "./dom.ts";
import { defaultRecipe, fromHash, type PageRecipe, toHash } from "./recipe.ts";
import { createRunView } from "./run.ts";
import { createSampleTable } from "./samples.ts";
import { createSettings } from "./settings.ts";
import { createStatus, type State } from "./status.ts";

/** How many unseen prompts the table shows, and how often the model answers them. */
const WATCHED = { prompts: 6, every: 5, maxNewTokens: 48 };

const trainer = createTrainer();
const status = createStatus();
const table = createSampleTable();
const view = createRunView(status, createCharts(), table);
const settings = createSettings((recipe) => {
  history.replaceState(null, "", toHash(recipe));
  view.clear(recipe);
});

let state: State = "idle";

function setState(to: State, words: string): void {
  state = to;
  status.setState(to, words);
  const running = to !== "idle";
  settings.enable(!running);
  byId("start", "button").disabled = running;
  const pause = byId("pause", "button");
  pause.textContent = to === "paused" ? "Resume" : "Pause";
  pause.disabled = !["preparing", "running", "paused"].includes(to);
  byId("step", "button").disabled = running && to !== "paused";
  byId("stop", "button").disabled = !["loading", "preparing", "running", "pausing", "paused"].includes(to);
  if (running) byId("saved").hidden = true;
}

function showError(error: unknown): void {
  console.error(error);
  const known = error instanceof AttuneError;
  byId("error-title").textContent = titleOf(error);
  byId("error-text").textContent = known ? `${error.message} (${error.code})` : String(error);
  byId("error").hidden = false;
}

function titleOf(error: unknown): string {
  if (!(error instanceof AttuneError)) return "Something unexpected went wrong.";
  return ["gpu-missing", "gpu-no-adapter", "gpu-device"].includes(error.code)
    ? "This page needs WebGPU: a recent Chrome, Edge, Firefox or Safari with graphics acceleration turned on."
    : "This did not work.";
}

const hideError = (): void => {
  byId("error").hidden = true;
};

/** Runs something that may fail, with the message box for its error. */
async function attempt(task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    showError(error);
  }
}

/** Begins a run, or goes on with a stored one, and follows it to its end. */
async function run(recipe: PageRecipe, { paused, resume }: { paused: boolean; resume?: SavedRun }): Promise<void> {
  hideError();
  view.clear(recipe);
  setState("loading", "Loading the model");
  let stepOnce = paused; // "Step" from the start: one step as soon as the run is held
  const onEvent = (event: TrainerEvent): void => {
    view.take(event);
    if (event.type === "ready" && state === "loading") setState("preparing", "Preparing the kernels for this device");
    if ((event.type === "step" || event.type === "selection") && state === "preparing") setState("running", "Running");
    if (event.type === "paused" && state !== "stopping") {
      setState("paused", "Paused");
      if (stepOnce) attempt(() => trainer.step());
      stepOnce = false;
    }
  };
  try {
    const end = resume === undefined
      ? await begin(recipe, paused, onEvent)
      : await trainer.start({ resume: resume.run, paused }, onEvent);
    setState("idle", end.type === "done" ? "Done" : "Stopped");
  } catch (error) {
    setState("idle", "Ended early");
    showError(error);
  }
  await attempt(offerSaved);
}

function begin(
  { algorithm, values, model, rewardModel }: PageRecipe,
  paused: boolean,
  onEvent: (event: TrainerEvent) => void,
): Promise<RunEnd> {
  const address = (path: string): string => new URL(path, document.baseURI).href;
  const request = {
    model: { url: address(model ?? "attune-1m") },
    rewardModel: { url: address(rewardModel ?? "attune-1m-reward") },
    data: "world" as const,
    paused,
  };
  const { fixed } = offers[algorithm];
  if (algorithm === "best-of-n") {
    const { count, ...config } = values;
    return trainer.select({ ...request, config: { ...fixed, ...config }, count }, onEvent);
  }
  // Names in the order of time. The page keeps one run: the ones before go once this one stands.
  const name = `run-${Date.now()}`;
  return trainer.start(
    { ...request, run: name, algorithm, config: { ...fixed, ...values }, watch: WATCHED },
    (event) => {
      onEvent(event);
      if (event.type === "ready") attempt(() => removeOthers(name));
    },
  );
}

async function removeOthers(name: string): Promise<void> {
  for (const { run } of await trainer.runs()) {
    if (run === name) continue;
    await trainer.remove(run).catch((error) => {
      // Another tab is at it; that run is not this page's to remove.
      if (!(error instanceof AttuneError && error.code === "run-busy")) throw error;
    });
  }
}

/** Shows the run that was stopped or cut off, if there is one. */
async function offerSaved(): Promise<void> {
  const saved = (await trainer.runs()).findLast(({ step, config }) => step > 0 && step < config.maxSteps);
  byId("saved").hidden = saved === undefined || state !== "idle";
  if (saved === undefined || !isChoice(saved.algorithm)) return;
  const { title } = offers[saved.algorithm];
  byId("saved-text").textContent =
    `A run of ${title} is saved in this browser, at step ${saved.step} of ${saved.config.maxSteps}.`;
  byId("saved-resume").onclick = () => {
    const recipe = recipeOf(saved);
    settings.show(recipe);
    history.replaceState(null, "", toHash(recipe));
    run(recipe, { paused: false, resume: saved });
  };
  byId("saved-discard").onclick = () =>
    attempt(async () => {
      await trainer.remove(saved.run);
      await offerSaved();
    });
}

/** The recipe of a stored run, as the form shows it. */
function recipeOf({ algorithm, config }: SavedRun): PageRecipe {
  const recipe = defaultRecipe(isChoice(algorithm) ? algorithm : "remax");
  const values = Object.entries(recipe.values).map(([name, value]) => {
    const saved = config[name];
    return [name, typeof saved === "number" ? saved : value];
  });
  return { ...recipe, values: Object.fromEntries(values) };
}

function restoreFromAddress(): void {
  let recipe = defaultRecipe("remax");
  try {
    recipe = fromHash(location.hash);
    hideError();
  } catch (error) {
    showError(error);
  }
  settings.show(recipe);
  view.clear(recipe);
}

function startFromForm(paused: boolean): void {
  const recipe = settings.read();
  if (recipe === undefined) return;
  history.replaceState(null, "", toHash(recipe));
  run(recipe, { paused });
}

byId("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  startFromForm(false);
});
byId("step").addEventListener("click", () => state === "paused" ? attempt(() => trainer.step()) : startFromForm(true));
byId("pause").addEventListener("click", () =>
  attempt(async () => {
    if (state === "paused") {
      setState("running", "Running");
      await trainer.resume();
    } else {
      setState("pausing", "Pausing after this step");
      await trainer.pause();
    }
  }));
byId("stop").addEventListener("click", () =>
  attempt(async () => {
    setState("stopping", "Stopping after this step");
    await trainer.stop();
  }));
byId("error-close").addEventListener("click", hideError);
addEventListener("hashchange", () => {
  if (state === "idle") restoreFromAddress();
});

restoreFromAddress();
setState("idle", "Ready to start");
attempt(offerSaved);
