/** The vocabulary of the synthetic world: what its sentences are made of, and what the gold reward looks for. */

/** Places that a prompt asks about; the reply's required keyword. */
export const topics: readonly string[] = [
  "river",
  "garden",
  "bridge",
  "mall",
  "park",
  "beach",
  "lake",
  "castle",
  "tower",
  "port",
  "island",
  "hill",
  "town",
  "farm",
  "barn",
  "zoo",
  "inn",
  "cave",
  "shop",
  "mill",
  "pond",
  "forest",
  "road",
  "hall",
];

export type Polarity = "good" | "bad";

export const adjectives: Readonly<Record<Polarity, readonly string[]>> = {
  good: ["nice", "lovely", "great", "calm", "clean", "bright"],
  bad: ["bad", "dull", "ugly", "loud", "dirty", "cold"],
};

/** What "I" do to a place; a reader must look for `do not like` before `like`. */
export const verbs: Readonly<Record<Polarity, readonly string[]>> = {
  good: ["love", "like", "enjoy"],
  bad: ["hate", "avoid", "do not like"],
};

/** Whole sentences that are polite, and the fragment of each by which it is known. */
export const politeSentences: readonly string[] = [
  "Thank you for asking",
  "I am happy to help",
  "You are welcome",
  "Sorry, I do not know more",
];

export const politeFragments: readonly string[] = ["please", "thank you", "happy to help", "welcome", "sorry"];

export const rudeSentences: readonly string[] = ["I do not care", "Do not ask me", "Leave me alone"];

export const rudeFragments: readonly string[] = ["do not care", "do not ask", "leave me alone"];
