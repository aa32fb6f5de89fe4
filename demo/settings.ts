/** The form: which algorithm, with which settings. */
import { type Choice, choices, isChoice, offers } from "./algorithms.ts";
import { byId, make } from "./dom.ts";
import { defaultRecipe, type PageRecipe } from "./recipe.ts";

export interface Settings {
  show(recipe: PageRecipe): void;
  /** What the form says, or undefined when an entry is out of bounds; the first such entry gets the focus. */
  read(): PageRecipe | undefined;
  enable(enabled: boolean): void;
}

/** Builds the form. `onChange` is called with every valid state that the user brings about. */
export function createSettings(onChange: (recipe: PageRecipe) => void): Settings {
  const form = byId("settings", "form");
  const fields = byId("fields");
  let shown: PageRecipe = defaultRecipe(choices[0]);

  for (const name of choices) byId("algorithms").append(choiceOf(name));

  function show(recipe: PageRecipe): void {
    shown = recipe;
    const radio = form.querySelector<HTMLInputElement>(`input[name=algorithm][value="${recipe.algorithm}"]`);
    if (radio !== null) radio.checked = true;
    fields.querySelectorAll(".field").forEach((field) => field.remove());
    for (const [name, setting] of Object.entries(offers[recipe.algorithm].settings)) {
      const { min, max, whole } = setting;
      const input = make("input", {
        type: "number",
        name,
        id: `setting-${name}`,
        min: String(min),
        max: String(max),
        step: whole ? "1" : "any",
        required: "",
        inputmode: whole ? "numeric" : "decimal",
        value: String(recipe.values[name]),
      });
      fields.append(make("div", { class: "field" }, make("label", { for: input.id, text: setting.label }), input));
    }
  }

  function read(): PageRecipe | undefined {
    if (!form.reportValidity()) return undefined;
    return current();
  }

  function current(): PageRecipe {
    const entries = Object.keys(offers[shown.algorithm].settings).map((
      name,
    ) => [name, Number(byId(`setting-${name}`, "input").value)]);
    return { ...shown, values: Object.fromEntries(entries) };
  }

  form.addEventListener("input", ({ target }) => {
    if (!(target instanceof HTMLInputElement)) return;
    if (target.name === "algorithm" && isChoice(target.value)) {
      const { values, ...rest } = form.checkValidity() ? current() : shown;
      const fresh = defaultRecipe(target.value);
      show({ ...rest, ...fresh, values: { ...fresh.values, seed: values.seed } });
      onChange(shown);
    } else if (form.checkValidity()) onChange(current());
  });

  return {
    show,
    read,
    enable(enabled) {
      for (const id of ["algorithms", "fields"]) byId(id, "fieldset").disabled = !enabled;
    },
  };
}

function choiceOf(name: Choice): HTMLElement {
  const { title, summary } = offers[name];
  const radio = make("input", { type: "radio", name: "algorithm", value: name });
  return make("label", { class: "choice" }, radio, make("span", { text: title }), make("small", { text: summary }));
}
