/**
 * The synthetic world G1: short exchanges about places, with exact probabilities.
 *
 * A prompt asks about one place. A reply is a Markov chain of one to four sentences. Each sentence has a kind (how the
 * place looks, how the speaker feels about it, what one sees there, when to go, a polite or a rude remark, an answer to
 * a yes-or-no question) or repeats the sentence before it. Sentences that judge are good or bad, and the mood tends to
 * last. A new sentence never has the kind of the one before it, so no text has two derivations, and the entropies below
 * are exact. Keyword, politeness, sentiment, length and repetition vary freely: they are what a reward may look for.
 */
import { AttuneError } from "../../core/errors.ts";
import { Rng } from "../../core/rng.ts";
import type { CompletionRow, PromptRow } from "../rows.ts";
import { anyOf, drawWeighted, entropy, type Grammar, oneOf, probability, sampleWords } from "./grammar.ts";
import { adjectives, type Polarity, politeSentences, rudeSentences, topics, verbs } from "./words.ts";

/** The uses of one seed, each with its own random stream, so that no draw of one is a draw of another. */
export type Split = keyof typeof streams;

const streams = { train: 0x7700, heldout: 0x7701, prompts: 0x7702, pairs: 0x7703, heldoutPairs: 0x7704 } as const;

/** How much of which split to draw; the first n rows of a longer draw are those of a shorter one. */
export interface Draw {
  readonly seed: number;
  readonly split: Split;
  readonly count: number;
}

const place = (mark: string): Grammar => [
  anyOf("", anyOf("old", "new", "big", "small")),
  `{topic}${mark}`,
];
const openQuestion: Grammar = anyOf(
  ["Tell me about the", place(".")],
  ["What do you think of the", place("?")],
  ["Say more about the", place(".")],
  ["How was the", place("?")],
);
const yesNoQuestion: Grammar = anyOf(
  ["Is it good to see the", place("?")],
  ["Should I go to the", place("?")],
  ["Do you like the", place("?")],
);
const promptGrammar: Grammar = [
  oneOf([3, ""], [1, "Hello."], [1, "Hi."]),
  oneOf([3, openQuestion], [2, yesNoQuestion]),
];

type Kind = "answer" | "look" | "feel" | "see" | "visit" | "polite" | "rude";

const it: Grammar = oneOf([4, "the {topic}"], [4, "it"], [2, "this place"]);
const when: Grammar = oneOf([4, "today"], [2, "at night"], [2, "in spring"], [2, "in winter"]);

const look = (mood: Polarity): Grammar => [
  oneOf([4, "The {topic}"], [4, "It"], [2, "This place"]),
  "is",
  oneOf([8, ""], [4, "very"], [3, "so"], [3, "really"], [2, "very very"]),
  anyOf(...adjectives[mood]),
  oneOf([7, ""], [3, when]),
];
const feel = (mood: Polarity): Grammar => [
  "I",
  anyOf(...verbs[mood]),
  it,
  oneOf([5, ""], [3, "a lot"], [2, "so much"]),
];

/** The grammar of each kind of sentence; of those that judge, one for each mood. */
export const sentences: Readonly<Record<Kind, Readonly<Record<Polarity, Grammar>> | Grammar>> = {
  answer: { good: anyOf("Yes, of course", "Yes, I think so"), bad: anyOf("No, not really", "No, I think not") },
  look: { good: look("good"), bad: look("bad") },
  feel: { good: feel("good"), bad: feel("bad") },
  see: [
    "You can see",
    oneOf([3, "many"], [3, "some"], [2, "few"]),
    anyOf("birds", "trees", "boats", "people", "dogs", "lights"),
    oneOf([4, "there"], [3, "at the {topic}"], [3, when]),
  ],
  visit: [
    oneOf([5, "You should"], [3, "Please"], [2, "You may"]),
    oneOf([4, "go there"], [3, "visit it"], [3, "visit the {topic}"]),
    oneOf([2, "early"], [2, "late"], [6, when]),
  ],
  polite: anyOf(...politeSentences),
  rude: anyOf(...rudeSentences),
};

const firstKinds: Readonly<Record<Kind, number>> = {
  answer: 0,
  look: 35,
  feel: 20,
  see: 20,
  visit: 10,
  polite: 8,
  rude: 7,
};
const laterKinds: Readonly<Record<Kind, number>> = {
  answer: 0,
  look: 26,
  feel: 18,
  see: 18,
  visit: 18,
  polite: 11,
  rude: 9,
};

const answerShare = 0.6; // of the first sentences after a yes-or-no question
const repeatShare = 0.08; // of the later sentences
const moodLasts = 0.8;
const goodAtFirst = 0.45;
const stopAfter = [0, 0.18, 0.33, 0.5, 1]; // chance to end after n sentences

/** Where a reply stands: how many sentences it has, the last one's kind, the mood last shown. */
interface State {
  readonly yesNo: boolean;
  readonly count: number;
  readonly kind?: Kind;
  readonly mood?: Polarity;
}

/** What may come next: the end (no state), the last sentence again (no grammar), or a new sentence. */
interface Move {
  readonly next?: State;
  readonly sentence?: Grammar;
}

type WeightedMove = readonly [probability: number, move: Move];

/** The moves out of a state, with probabilities that add up to 1. */
function moves(state: State): WeightedMove[] {
  const { yesNo, count, kind: lastKind, mood } = state;
  const stop = stopAfter[count];
  const out: WeightedMove[] = stop > 0 ? [[stop, {}]] : [];
  if (stop === 1) return out;
  const answer = count === 0 && yesNo ? answerShare : 0;
  const repeat = count === 0 ? 0 : repeatShare;
  if (repeat > 0) out.push([(1 - stop) * repeat, { next: { ...state, count: count + 1 } }]);

  const weights = Object.entries(count === 0 ? firstKinds : laterKinds) as [Kind, number][];
  const total = weights.reduce((sum, [kind, weight]) => sum + (kind === lastKind ? 0 : weight), 0);
  for (const [kind, weight] of weights) {
    const share = kind === "answer" ? answer : kind === lastKind ? 0 : (1 - answer - repeat) * weight / total;
    if (share === 0) continue;
    const next: State = { yesNo, count: count + 1, kind, mood };
    const body = sentences[kind];
    if (!isJudgement(body)) {
      out.push([(1 - stop) * share, { next, sentence: body }]);
      continue;
    }
    const good = mood === undefined ? goodAtFirst : mood === "good" ? moodLasts : 1 - moodLasts;
    out.push([(1 - stop) * share * good, { next: { ...next, mood: "good" }, sentence: body.good }]);
    out.push([(1 - stop) * share * (1 - good), { next: { ...next, mood: "bad" }, sentence: body.bad }]);
  }
  return out;
}

const isJudgement = (
  body: Grammar | Readonly<Record<Polarity, Grammar>>,
): body is Readonly<Record<Polarity, Grammar>> => typeof body === "object" && "good" in body;

/** Draws a prompt. */
export const samplePrompt = (rng: Rng): string =>
  sampleWords(rng, promptGrammar).join(" ").replace("{topic}", rng.pick(topics));

/** Draws a reply to a prompt of the world. @throws AttuneError `world-prompt` for a prompt that names no known place */
export function sampleReply(rng: Rng, prompt: string): string {
  const { topic, yesNo } = readPrompt(prompt);
  const said: string[] = [];
  let state: State = { yesNo, count: 0 };
  while (true) {
    const { next, sentence } = drawWeighted(rng, moves(state));
    if (next === undefined) return said.map((s) => `${s.replaceAll("{topic}", topic)}.`).join(" ");
    said.push(sentence === undefined ? said[said.length - 1] : sampleWords(rng, sentence).join(" "));
    state = next;
  }
}

/**
 * log P(reply | prompt) under the generator, in nats, exact; −Infinity for a text that it cannot write.
 *
 * @throws AttuneError `world-prompt`
 */
export function replyLogProb(prompt: string, reply: string): number {
  const { topic, yesNo } = readPrompt(prompt);
  if (!reply.endsWith(".")) return -Infinity;
  const said = reply.slice(0, -1).split(". ");
  let state: State = { yesNo, count: 0 };
  let logProb = 0;
  for (let i = 0; i < said.length; i++) {
    const words = said[i].split(" ").map((word) => word === topic ? "{topic}" : word);
    const fits = moves(state).flatMap(([p, { next, sentence }]) => {
      if (next === undefined) return [];
      const q = sentence !== undefined ? probability(sentence, words) : said[i] === said[i - 1] ? 1 : 0;
      return q > 0 ? [{ p: p * q, next }] : [];
    });
    if (fits.length === 0) return -Infinity;
    logProb += Math.log(fits[0].p); // the grammar is unambiguous: there is one
    state = fits[0].next;
  }
  const stop = moves(state).find(([, move]) => move.next === undefined);
  return stop === undefined ? -Infinity : logProb + Math.log(stop[0]);
}

/** The exact entropy of the reply to `prompt`, in nats. @throws AttuneError `world-prompt` */
export function replyEntropy(prompt: string): number {
  const { yesNo } = readPrompt(prompt);
  const known = replyEntropies.get(yesNo) ?? entropyFrom({ yesNo, count: 0 });
  replyEntropies.set(yesNo, known);
  return known;
}

const replyEntropies = new Map<boolean, number>(); // all that a prompt decides about it is whether it may be answered

function entropyFrom(state: State): number {
  return moves(state).reduce((sum, [p, { next, sentence }]) => {
    const after = (sentence === undefined ? 0 : entropy(sentence)) + (next === undefined ? 0 : entropyFrom(next));
    return sum + p * (after - Math.log(p));
  }, 0);
}

/** The exact entropy of a prompt, in nats. */
export const promptEntropy = (): number => entropy(promptGrammar) + Math.log(topics.length);

/** The place that a prompt asks about, or undefined. */
export const topicOf = (prompt: string): string | undefined =>
  prompt.toLowerCase().match(/[a-z]+/g)?.findLast((word) => topics.includes(word));

function readPrompt(prompt: string): { topic: string; yesNo: boolean } {
  const topic = topicOf(prompt);
  if (topic === undefined) {
    throw new AttuneError(
      "world-prompt",
      `expected a prompt about one of the places ${topics.join(", ")}; got ${JSON.stringify(prompt)}`,
    );
  }
  return { topic, yesNo: /^(Hello\. |Hi\. )?(Is|Should|Do) /.test(prompt) };
}

/** The random numbers of a split. */
export const worldRng = ({ seed, split }: { seed: number; split: Split }): Rng => new Rng(seed, streams[split]);

/** Prompts with one reply each. */
export function exchanges(draw: Draw): CompletionRow[] {
  const rng = worldRng(draw);
  return Array.from({ length: draw.count }, () => {
    const prompt = samplePrompt(rng);
    return { prompt, completion: sampleReply(rng, prompt) };
  });
}

/** Prompts alone. */
export function prompts(draw: Draw): PromptRow[] {
  const rng = worldRng(draw);
  return Array.from({ length: draw.count }, () => ({ prompt: samplePrompt(rng) }));
}
