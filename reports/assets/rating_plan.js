// Rating inside the file: what is rated in which order, and what the ratings say. No nodes here.

const PAIRS = "pairs";
const WORTH = { A: 1, tie: 0.5, B: 0 };

// A number of 53 bits from a text; the same text gives the same number in any browser.
function hashOf(text, seed = 0) {
  let one = 0xdeadbeef ^ seed;
  let two = 0x41c6ce57 ^ seed;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    one = Math.imul(one ^ code, 2654435761);
    two = Math.imul(two ^ code, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
  two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return 4294967296 * (2097151 & two) + (one >>> 0);
}

// Numbers from 0 up to 1, the same for the same seed.
function randoms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, seed) {
  const copy = [...list];
  const random = randoms(seed);
  for (let i = copy.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

// Whether this rater sees the pair's answers in the other order.
const turnedFor = (rater, name) => hashOf(`${rater}\n${name}`, 7) % 2 === 1;

const turnVerdict = (verdict, turned) =>
  !turned || verdict === "tie" ? verdict : verdict === "A" ? "B" : "A";

// The different answers to one prompt: [{text, models}], in the order of their texts.
function distinctAnswers(models, answerOf) {
  const found = new Map();
  for (const model of models) {
    const text = answerOf(model);
    if (text === null || text === undefined) continue;
    const same = found.get(text.trim());
    if (same) same.models.push(model);
    else found.set(text.trim(), { text, models: [model] });
  }
  return [...found.values()].sort((one, other) => (one.text < other.text ? -1 : 1));
}

// Everything that can be rated: {pairs: [...], marks: [...]}, each {row, sides: [{text, models}]}.
function itemsOf(answers, models) {
  const pairs = [];
  const marks = [];
  for (let row = 0; row < answers.count; row += 1) {
    if (!answers.hasText(row)) continue;
    const sides = distinctAnswers(models, (model) => answers.answer(model, row));
    for (const side of sides) marks.push({ row, sides: [side] });
    for (let i = 0; i < sides.length; i += 1) {
      for (let j = i + 1; j < sides.length; j += 1) pairs.push({ row, sides: [sides[i], sides[j]] });
    }
  }
  return { pairs, marks };
}

// The name of an item: a hash of what is shown, so that a rating holds for these texts alone.
const itemName = (prompt, sides) =>
  hashOf([prompt ?? "", ...sides.map((side) => side.text)].join("\u0000")).toString(36);

// --- agreement -----------------------------------------------------------------------------------

// Krippendorff's alpha (2011) of units, each a list of numbers; null where it can't be told.
function alphaOf(units, level) {
  const paired = units.filter((unit) => unit.length > 1);
  const values = [...new Set(paired.flat())].sort((a, b) => a - b);
  if (values.length < 2) return null;
  const place = new Map(values.map((value, i) => [value, i]));
  const counts = values.map(() => values.map(() => 0));
  for (const unit of paired) {
    for (let i = 0; i < unit.length; i += 1) {
      for (let j = 0; j < unit.length; j += 1) {
        if (i !== j) counts[place.get(unit[i])][place.get(unit[j])] += 1 / (unit.length - 1);
      }
    }
  }
  const marginal = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const n = marginal.reduce((sum, count) => sum + count, 0);
  let below = 0;
  const ranks = marginal.map((count) => {
    below += count;
    return below - count / 2;
  });
  const distance = (i, j) => (level === "nominal" ? Number(i !== j) : (ranks[i] - ranks[j]) ** 2);
  let observed = 0;
  let expected = 0;
  for (let i = 0; i < values.length; i += 1) {
    for (let j = 0; j < values.length; j += 1) {
      observed += counts[i][j] * distance(i, j);
      expected += marginal[i] * marginal[j] * distance(i, j);
    }
  }
  return 1 - ((n - 1) * observed) / expected;
}

// The share of pairs of ratings of one unit that are the same.
function equalShare(units) {
  let same = 0;
  let all = 0;
  for (const unit of units) {
    for (let i = 0; i < unit.length; i += 1) {
      for (let j = i + 1; j < unit.length; j += 1) {
        all += 1;
        same += Number(unit[i] === unit[j]);
      }
    }
  }
  return all ? same / all : null;
}

// --- what people say of the models -----------------------------------------------------------------

const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// The mean of values with a 95 % interval: a bootstrap over clusters (prompts). `entries` are
// [cluster, value]; of fewer than ten clusters a bootstrap knows too little.
const FEWEST_CLUSTERS = 10;

function meanWithInterval(entries, resamples = 2000, seed = 1) {
  const clusters = new Map();
  for (const [cluster, value] of entries) {
    const one = clusters.get(cluster) ?? { sum: 0, n: 0 };
    clusters.set(cluster, { sum: one.sum + value, n: one.n + 1 });
  }
  const list = [...clusters.values()];
  const value = meanOf(entries.map((entry) => entry[1]));
  if (list.length < FEWEST_CLUSTERS) return { value, low: null, high: null };
  const random = randoms(seed);
  const means = new Float64Array(resamples);
  for (let k = 0; k < resamples; k += 1) {
    let sum = 0;
    let n = 0;
    for (let i = 0; i < list.length; i += 1) {
      const one = list[Math.floor(random() * list.length)];
      sum += one.sum;
      n += one.n;
    }
    means[k] = sum / n;
  }
  means.sort();
  return { value, low: quantile(means, 0.025), high: quantile(means, 0.975) };
}

// A share of n with Wilson's interval (1927), 95 %; it holds for few and for all-equal values too.
function shareWithInterval(value, n) {
  const z = 1.959964;
  const middle = (value + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((value * (1 - value)) / n + (z * z) / (4 * n * n));
  return { value, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

// Win rates of pairs of models. `votes` are {row, model, other, worth}: one an item and rater,
// worth being that of `model`. Ties count half.
function winRates(votes, models) {
  const found = [];
  for (let i = 0; i < models.length; i += 1) {
    for (let j = 0; j < models.length; j += 1) {
      const between = votes.filter((vote) => vote.model === models[j] && vote.other === models[i]);
      if (i >= j || !between.length) continue;
      const byRow = new Map();
      for (const vote of between) byRow.set(vote.row, [...(byRow.get(vote.row) ?? []), vote.worth]);
      const share = meanOf([...byRow.values()].map(meanOf));
      const count = (worth) => between.filter((vote) => vote.worth === worth).length;
      found.push({
        model: models[j], other: models[i], prompts: byRow.size, votes: between.length,
        wins: count(1), ties: count(0.5), losses: count(0), ...shareWithInterval(share, byRow.size),
      });
    }
  }
  return found;
}
