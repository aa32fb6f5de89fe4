/** The rows that training and evaluation read: TRL's standard dataset types, and token ids. */

export interface TextRow {
  readonly text: string;
}

export interface PromptRow {
  readonly prompt: string;
}

export interface CompletionRow {
  readonly prompt: string;
  readonly completion: string;
}

export interface PreferenceRow {
  readonly prompt: string;
  readonly chosen: string;
  readonly rejected: string;
}

/** A tokenised prompt and completion; the completion ends in the end-of-text token unless it was cut off. */
export interface TokenRow {
  readonly promptIds: readonly number[];
  readonly completionIds: readonly number[];
}

/** A tokenised prompt with the completion that was preferred and the one that was not. */
export interface PreferenceTokenRow {
  readonly promptIds: readonly number[];
  readonly chosenIds: readonly number[];
  readonly rejectedIds: readonly number[];
}

/** The kinds of rows that a file may hold. */
export interface RowTypes {
  readonly text: TextRow;
  readonly prompt: PromptRow;
  readonly completion: CompletionRow;
  readonly preference: PreferenceRow;
  readonly tokens: TokenRow;
}
