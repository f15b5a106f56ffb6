"use strict";
// Classifies a text and explains the answer without a server, as hyperagg does in Python:
//
//   logits  =  W sum_t w_t e_t * p_b(t) / |w| + b
//
// The text is normalized and split into tokens, tokens and their n-grams are looked up, and their
// vectors are summed. hyperagg/text/normalization.py, segmentation.py and scan.py, and
// hyperagg/classifier/model.py define what is computed here; a test compares tokens, logits and
// contributions. One thing differs: Python orders more than 256 consecutive combining marks in
// parts.

const SPACE = 0, WORD = 1, MARK = 2, SINGLE = 3, EXTEND = 4, REGIONAL = 5;
// A code point that the Unicode version of the model does not know. It is a mark, and it stays as it
// is even if this browser knows a lower-case form of it.
const UNASSIGNED = 6;
const ZERO_WIDTH_JOINER = "\u200d";

// The lengths of n-grams, in characters with their combining marks.
const MIN_LENGTH = 6, PREFIX = 5, SUFFIX = 3; // of "ngrams"
const MAX_AFFIX = 3, MAX_INNER = 4, MAX_CHARACTERS = 64; // of "chars"

const NUM_BLOCKS = 16; // of positions

/** Normalizes texts and knows the classes of characters, from tables that Python wrote. */
class Characters {
  constructor({ runs, formatting, folded }) {
    this.classes = new Uint8Array(0x110000);
    let begin = 0;
    for (const run of runs.split(" ")) {
      const number = parseInt(run, 36); // 7 times the length of the run, plus its class
      const end = begin + Math.floor(number / 7);
      this.classes.fill(number % 7, begin, end);
      begin = end;
    }
    this.formatting = new RegExp(`[${formatting}]+`, "gu");
    this.folded = new RegExp(`[${folded}]+`, "gu");
    this.startsFolded = new RegExp(`^[${folded}]`, "u");
  }

  /** The class of a character. */
  classOf(character) {
    const found = this.classes[character.codePointAt(0)];
    return found === UNASSIGNED ? MARK : found;
  }

  /** NFC(lower(fold(text))), where half of a surrogate pair is a question mark. */
  normalize(text) {
    if (isAscii(text)) return text.toLowerCase();
    let out = "", known = "";
    for (const character of text) {
      if (this.classes[character.codePointAt(0)] === UNASSIGNED) {
        out += this.normalizeKnown(known) + character;
        known = "";
      } else {
        known += character;
      }
    }
    return (out + this.normalizeKnown(known)).replace(/[\ud800-\udfff]/gu, "?");
  }

  normalizeKnown(text) {
    const fold = (run) => run.replace(this.formatting, "").normalize("NFKC");
    return text.replace(this.folded, fold).toLowerCase().replaceAll("ς", "σ").normalize("NFC");
  }

  /** For each character of the normalized text, the first and the last + 1 character of the text
   * that it comes from. */
  sources(characters) {
    const out = [];
    for (let begin = 0, end = 1; begin < characters.length; end++) {
      if (end < characters.length && this.joins(characters[end])) continue;
      const piece = this.normalize(characters.slice(begin, end).join(""));
      for (const _ of piece) out.push([begin, end]);
      begin = end;
    }
    return out;
  }

  /** Whether the normalized form of a character belongs to that of the one before it. */
  joins(character) {
    if (this.startsFolded.test(character)) character = this.normalize(character);
    if (!character) return true;
    const code = character.codePointAt(0);
    // Vowels and finals of Hangul compose with the letter before them.
    return (code >= 0x1160 && code < 0x1200) || this.classOf(character) === EXTEND;
  }
}

function isAscii(text) {
  return /^[\x00-\x7f]*$/.test(text);
}

/** Splits texts into tokens, and finds the ids of tokens and n-grams in a vocabulary. */
class Tokenizer {
  constructor(vocabulary, features, characters) {
    this.features = features; // "words", "ngrams" or "chars"
    this.characters = characters;
    this.ids = new Map(vocabulary.map((entry, id) => [entry, id]));
    this.ids.delete(vocabulary[0]); // what stands for unknown tokens, at id 0
  }

  /** The tokens of a normalized text, given as its characters and their classes. */
  split(characters, classes) {
    const tokens = [];
    for (let i = 0; i < characters.length; ) {
      const begin = i;
      const first = classes[i++];
      let kind = first;
      if (kind === SPACE) continue;
      if (kind === WORD || kind === EXTEND) {
        kind = WORD;
        while (classes[i] === WORD || classes[i] === EXTEND) i++;
      } else {
        for (; i < characters.length && characters[i] > "\x7f"; i++) {
          const joined = classes[i] === MARK && characters[i - 1] === ZERO_WIDTH_JOINER;
          if (kind === REGIONAL && classes[i] === REGIONAL) kind = MARK; // a flag is whole
          else if (classes[i] !== EXTEND && !joined) break;
        }
      }
      const text = characters.slice(begin, i).join("");
      tokens.push({ text, begin, end: i, kind, hasAffixes: kind === WORD && first !== EXTEND });
    }
    return tokens;
  }

  /**
   * The ids of a text, the first and the last word that each of them stands for, and the first and
   * the last + 1 character (Unicode code point) of each word.
   */
  encode(text) {
    const characters = Array.from(this.characters.normalize(text));
    const classes = characters.map((character) => this.characters.classOf(character));
    const tokens = this.split(characters, classes);
    const ids = [], owners = [];
    const add = (entry, first, last) => {
      const id = this.ids.get(entry);
      if (id === undefined) return;
      ids.push(id);
      owners.push([first, last]);
    };
    let singles = 0; // letters of scripts without spaces, directly before this token
    tokens.forEach((token, t) => {
      ids.push(this.ids.get(token.text) ?? 0);
      owners.push([t, t]);
      if (this.features === "words") return;
      const isSingle = token.kind === SINGLE;
      if (t) add(tokens[t - 1].text + (isSingle && singles ? "" : " ") + token.text, t - 1, t);
      for (let before = 2; isSingle && before <= Math.min(3, singles); before++) {
        const letters = tokens.slice(t - before, t + 1).map((each) => each.text);
        add(letters.join(""), t - before, t);
      }
      singles = isSingle ? singles + 1 : 0;
      if (token.hasAffixes) {
        const letters = withMarks(characters, classes, token.begin, token.end);
        for (const entry of this.ngramsOfCharacters(letters)) add(entry, t, t);
      }
    });
    return { ids, owners, spans: this.spans(text, tokens) };
  }

  /** The entries of the n-grams of a word's characters: "petro*", "*eum", "*role*". */
  *ngramsOfCharacters(letters) {
    if (this.features === "ngrams") {
      if (letters.length < MIN_LENGTH) return;
      yield letters.slice(0, PREFIX).join("") + "*";
      yield "*" + letters.slice(-SUFFIX).join("");
      return;
    }
    const count = Math.min(letters.length, MAX_CHARACTERS);
    for (let first = 0; first < count; first++) {
      for (let size = 1; size <= Math.min(MAX_INNER, count - first); size++) {
        yield "*" + letters.slice(first, first + size).join("") + "*";
      }
    }
    for (let size = 1; size <= Math.min(MAX_AFFIX, count); size++) {
      yield letters.slice(0, size).join("") + "*";
      if (count === letters.length) yield "*" + letters.slice(-size).join("");
    }
  }

  spans(text, tokens) {
    if (isAscii(text)) return tokens.map(({ begin, end }) => [begin, end]);
    const sources = this.characters.sources(Array.from(text));
    return tokens.map(({ begin, end }) => [sources[begin][0], sources[end - 1][1]]);
  }
}

/** The characters from `begin` to `end` - 1, each with its combining marks. */
function withMarks(characters, classes, begin, end) {
  const out = [];
  for (let i = begin; i < end; i++) {
    if (classes[i] === EXTEND && out.length) out[out.length - 1] += characters[i];
    else out.push(characters[i]);
  }
  return out;
}

/** A classifier whose parameters are in the page. */
class LocalClassifier {
  constructor(description, bytes) {
    const { classes, d_model: dim, vocab_size: size } = description;
    Object.assign(this, { labels: classes, dim, description });
    let offset = 0;
    const floats = (length) => {
      const array = new Float32Array(bytes.buffer, bytes.byteOffset + offset, length);
      offset += 4 * length;
      return array;
    };
    this.positions = floats(NUM_BLOCKS * dim);
    this.weight = floats(classes.length * dim);
    this.bias = floats(classes.length);
    this.scales = floats(size);
    this.embedding = new Int8Array(bytes.buffer, bytes.byteOffset + offset, size * dim);
    const vocabulary = JSON.parse(new TextDecoder().decode(bytes.subarray(offset + size * dim)));
    const characters = new Characters(description.unicode);
    this.tokenizer = new Tokenizer(vocabulary, description.features, characters);
  }

  /** Reads the parameters, which are compressed by gzip and encoded in base64. */
  static async load(description, parameters) {
    const compressed = Uint8Array.from(atob(parameters), (character) => character.charCodeAt(0));
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    return new LocalClassifier(description, bytes);
  }

  /**
   * The answer to a text in the form of the server's /explain: its words, and the labels with score,
   * logit, bias and the contribution of each word to the logit, the highest logit first.
   */
  explain(text, { topK = Infinity, label = null } = {}) {
    const { words, encoded } = this.sum(text);
    const { logits, scores, ranked } = this.score(words);
    const shown = ranked.filter((c, rank) => rank < topK || this.labels[c] === label);
    const characters = Array.from(text);
    return {
      tokens: encoded.spans.slice(0, words.length).map(([start, end]) => {
        return { text: characters.slice(start, end).join(""), start, end };
      }),
      labels: shown.map((c) => ({
        label: this.labels[c],
        score: scores[c],
        logit: logits[c],
        bias: this.bias[c],
        contributions: words.map((word) => this.dot(c, word)),
      })),
    };
  }

  /** The scores of the labels for each text, the highest first. */
  async predict(texts, { topK = Infinity } = {}) {
    return texts.map((text) => {
      const { scores, ranked } = this.score(this.sum(text).words);
      return ranked.slice(0, topK).map((c) => ({ label: this.labels[c], score: scores[c] }));
    });
  }

  /** Logits and probabilities of all labels, and the labels by decreasing logit. */
  score(words) {
    const pooled = new Float64Array(this.dim);
    for (const word of words) word.forEach((value, d) => (pooled[d] += value));
    const logits = this.labels.map((_, c) => this.bias[c] + this.dot(c, pooled));
    const ranked = this.labels.map((_, c) => c).sort((a, b) => logits[b] - logits[a]);
    return { logits, scores: this.probabilities(logits), ranked };
  }

  /** For each word the sum of w_t e_t * p_t / |w| over its tokens; a token that stands for several
   * words is divided equally between them. */
  sum(text) {
    const { dim, positions, description } = this;
    const encoded = this.tokenizer.encode(text);
    const length = Math.min(encoded.ids.length, description.max_tokens ?? Infinity);
    const weights = this.weights(encoded.ids.slice(0, length));
    const words = [];
    for (let t = 0; t < length; t++) {
      const id = encoded.ids[t], [first, last] = encoded.owners[t];
      const block = Math.min(31 - Math.clz32(t + 1), NUM_BLOCKS - 1);
      const factor = (weights[t] * this.scales[id]) / (last - first + 1);
      for (let word = first; word <= last; word++) {
        const sum = (words[word] ??= new Float64Array(dim));
        for (let d = 0; d < dim; d++) {
          sum[d] += factor * this.embedding[id * dim + d] * positions[block * dim + d];
        }
      }
    }
    return { words, encoded };
  }

  /** The weight of each token, divided by |w|. */
  weights(ids) {
    if (this.description.pooling === "mean") return ids.map(() => 1 / ids.length);
    const counts = new Map();
    const weights = ids.map((id) => {
      counts.set(id, (counts.get(id) ?? 0) + 1);
      return 1 / counts.get(id);
    });
    const squares = weights.reduce((sum, weight) => sum + weight * weight, 0);
    return weights.map((weight) => weight / Math.sqrt(Math.max(1, squares)));
  }

  dot(c, vector) {
    let sum = 0;
    for (let d = 0; d < this.dim; d++) sum += this.weight[c * this.dim + d] * vector[d];
    return sum;
  }

  probabilities(logits) {
    if (this.description.multi_label) return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
    const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = logits.map((logit) => Math.exp(logit - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }
}
