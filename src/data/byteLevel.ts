/** The byte alphabet and the word splitting of GPT-2's tokenizer (Radford et al. 2019), which Hugging Face calls ByteLevel. */

/** Splits a text into the pieces that merges stay within: contractions, words with their leading space, numbers, marks. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/**
 * The visible character that stands for each byte: itself where it is printable in Latin-1, else U+0100 upwards, in the
 * order of the bytes. A space becomes "Ġ".
 */
export const byteAlphabet: readonly string[] = makeAlphabet();

function makeAlphabet(): string[] {
  const printable = (byte: number) => byte >= 0x21 && byte <= 0x7e || byte >= 0xa1 && byte <= 0xac || byte >= 0xae;
  let spare = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : spare++));
}
