// What packing.py packed: pairs of characters that carry 13 bits, a zlib stream, and for the texts
// of answers a table of passages that came before. Pure functions; damaged data throws.

const PACK_CODES = new Int8Array(128).fill(-1);
for (let code = 33, value = 0; code < 127; code += 1) {
  if (!"<&\\".includes(String.fromCharCode(code))) PACK_CODES[code] = value++;
}
// No match is shorter; see long_matches.py.
const PACK_WINDOW = 24;

// A packed JSON value.
async function unpack(text) {
  return JSON.parse(new TextDecoder().decode(await inflated(undense(text))));
}

// The bytes of packed texts, `size` of them.
async function unpackText(text, size) {
  return withMatches(await inflated(undense(text)), size);
}

// Characters to bytes. The last character says whether the zeros that filled up the last pair
// made a byte too many.
function undense(text) {
  const codes = new TextEncoder().encode(text);
  const end = codes.length - 1;
  if (end < 0 || end % 2) throw new Error("packed data is cut off");
  const bytes = new Uint8Array(Math.floor((end / 2) * 13 / 8));
  // Bits that have left stay in the upper half of the number, where nothing looks.
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < end; i += 2) {
    bits = (bits << 13) | (PACK_CODES[codes[i]] * 91 + PACK_CODES[codes[i + 1]]);
    held += 5;
    bytes[at] = bits >> held;
    at += 1;
    if (held >= 8) {
      held -= 8;
      bytes[at] = bits >> held;
      at += 1;
    }
  }
  return bytes.subarray(0, at - (codes[end] === 49 ? 1 : 0));
}

// The content of a zlib stream, unpacked without blocking the page; its checksum is checked.
async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Literals with the passages put back: run of literals, then length and distance of a passage.
function withMatches(packed, size) {
  const head = new DataView(packed.buffer, packed.byteOffset, 16);
  const count = head.getUint32(0, true);
  const starts = [16];
  for (let i = 4; i < 16; i += 4) starts.push(starts.at(-1) + head.getUint32(i, true));
  const [runs, lengths, distances] = starts.map((start) => varints(packed, start));
  const bytes = new Uint8Array(size);
  let from = starts[3];
  let to = 0;
  for (let i = 0; i < count; i += 1) {
    // Short runs one by one: a view of each would cost more than the copy.
    const end = from + runs();
    if (end - from > 64) {
      bytes.set(packed.subarray(from, end), to);
      to += end - from;
      from = end;
    } else {
      while (from < end) bytes[to++] = packed[from++];
    }
    const length = lengths() + PACK_WINDOW;
    const source = to - distances();
    bytes.copyWithin(to, source, source + length);
    to += length;
  }
  bytes.set(packed.subarray(from), to);
  if (to + packed.length - from !== size) throw new Error("packed texts have another size");
  return bytes;
}

// A function that reads the next number from bytes of seven bits, the lowest first.
function varints(bytes, start) {
  let at = start;
  return () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at];
      at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      if (byte === undefined) throw new Error("packed texts are cut off");
    }
  };
}
