// The network in JavaScript: it reads text, says how likely each character was, and writes.
//
// It computes what charlm does in Python, on weights that `charlm/report/network_data.py` packed. Nothing here
// knows of the page. The letters are those of charlm/cells:
//
//     V symbols    H hidden units    G gates of the cell    K embedding width    R rank of the output matrix
//     x input      s state           c memory cell of the LSTM
//     U input weights (G·H, ·)       W recurrent weights (G·H, H)       V_o output weights (V, R or H)
//     ∘ elementwise product          σ the logistic function
//
// Gates stand in the order i f g o for the LSTM and r z n for the GRU. Log-probabilities are in nats. A character
// is a code point; at level "byte" it is made of several symbols.

"use strict";

const charlm = (() => {
  // ---------------------------------------------------------------------------------------------------- arithmetic

  const sigmoid = (a) => 1 / (1 + Math.exp(-a));

  // y = M x + b. Eight rows at a time, so that eight sums run beside each other and x is read once for all of them.
  function multiply(matrix, x, b, y, firstRow = 0, rows = matrix.rows) {
    const M = matrix.values, columns = matrix.columns, end = firstRow + rows;
    let row = firstRow;
    for (; row + 8 <= end; row += 8) {
      const m0 = row * columns, m1 = m0 + columns, m2 = m1 + columns, m3 = m2 + columns;
      const m4 = m3 + columns, m5 = m4 + columns, m6 = m5 + columns, m7 = m6 + columns;
      let y0 = b[row], y1 = b[row + 1], y2 = b[row + 2], y3 = b[row + 3];
      let y4 = b[row + 4], y5 = b[row + 5], y6 = b[row + 6], y7 = b[row + 7];
      for (let k = 0; k < columns; k++) {
        const x_k = x[k];
        y0 += M[m0 + k] * x_k;
        y1 += M[m1 + k] * x_k;
        y2 += M[m2 + k] * x_k;
        y3 += M[m3 + k] * x_k;
        y4 += M[m4 + k] * x_k;
        y5 += M[m5 + k] * x_k;
        y6 += M[m6 + k] * x_k;
        y7 += M[m7 + k] * x_k;
      }
      y[row] = y0, y[row + 1] = y1, y[row + 2] = y2, y[row + 3] = y3;
      y[row + 4] = y4, y[row + 5] = y5, y[row + 6] = y6, y[row + 7] = y7;
    }
    for (; row < end; row++) {
      let sum = b[row];
      for (let k = 0, m = row * columns; k < columns; k++, m++) sum += M[m] * x[k];
      y[row] = sum;
    }
  }

  // --------------------------------------------------------------------------------------------------------- cells
  //
  // Each takes x = U x_t + b and changes s, for the LSTM c too, from step t-1 to t. `a` is room for G·H numbers, b'
  // the recurrent bias.

  const cells = {
    // s_t = tanh(x + W s_{t-1} + b')
    rnn(x, W, b, s, c, a) {
      multiply(W, s, b, a);
      for (let k = 0; k < s.length; k++) s[k] = Math.tanh(x[k] + a[k]);
    },

    // i, f, o = σ(x + W s_{t-1} + b'), g = tanh(x + W s_{t-1} + b')
    // c_t = f ∘ c_{t-1} + i ∘ g
    // s_t = o ∘ tanh(c_t)
    lstm(x, W, b, s, c, a) {
      const H = s.length;
      multiply(W, s, b, a);
      for (let k = 0; k < H; k++) {
        const i = sigmoid(x[k] + a[k]);
        const f = sigmoid(x[H + k] + a[H + k]);
        const g = Math.tanh(x[2 * H + k] + a[2 * H + k]);
        const o = sigmoid(x[3 * H + k] + a[3 * H + k]);
        c[k] = f * c[k] + i * g;
        s[k] = o * Math.tanh(c[k]);
      }
    },

    // r, z = σ(x + W s_{t-1} + b')
    // n = tanh(x + r ∘ (W s_{t-1} + b'))
    // s_t = (1 - z) ∘ n + z ∘ s_{t-1}
    gru(x, W, b, s, c, a) {
      const H = s.length;
      multiply(W, s, b, a);
      for (let k = 0; k < H; k++) {
        const r = sigmoid(x[k] + a[k]);
        const z = sigmoid(x[H + k] + a[H + k]);
        const n = Math.tanh(x[2 * H + k] + r * a[2 * H + k]);
        s[k] = (1 - z) * n + z * s[k];
      }
    },

    // r, z = σ(x + W s_{t-1} + b')
    // n = tanh(x + W (r ∘ s_{t-1}) + b')
    // s_t = (1 - z) ∘ n + z ∘ s_{t-1}
    "gru-before"(x, W, b, s, c, a) {
      const H = s.length, rs = new Float32Array(H);
      multiply(W, s, b, a, 0, 2 * H);
      for (let k = 0; k < H; k++) rs[k] = sigmoid(x[k] + a[k]) * s[k];
      multiply(W, rs, b, a, 2 * H, H);
      for (let k = 0; k < H; k++) {
        const z = sigmoid(x[H + k] + a[H + k]);
        const n = Math.tanh(x[2 * H + k] + a[2 * H + k]);
        s[k] = (1 - z) * n + z * s[k];
      }
    },
  };

  // ------------------------------------------------------------------------------------------------------- network

  class Network {
    constructor(data) {
      const H = data.hiddenSize, outputs = data.output.rows;
      this.step = cells[data.cell];
      this.hasMemory = data.cell === "lstm";
      this.hiddenSize = H;
      this.embedding = data.embedding && unpackMatrix(data.embedding, data.format);
      this.layers = data.layers.map((layer) => {
        const W = unpackMatrix(layer.W, data.format);
        return {
          U: unpackMatrix(layer.U, data.format),
          W,
          b: unpackVector(layer.bias_ih, W.rows),
          recurrentBias: unpackVector(layer.bias_hh, W.rows),
          x: new Float32Array(W.rows),
          a: new Float32Array(W.rows),
        };
      });
      this.projection = data.projection && unpackMatrix(data.projection, data.format);
      this.output = unpackMatrix(data.output, data.format);
      this.outputBias = unpackVector(data.outputBias, outputs);
      this.features = this.projection && new Float32Array(this.projection.rows);
      this.noBias = new Float32Array(this.projection ? this.projection.rows : 0);
      this.inputs = new Array(outputs); // of each symbol, made when it first comes up
    }

    // The zero state.
    initialState() {
      const zeros = () => this.layers.map(() => new Float32Array(this.hiddenSize));
      return {hidden: zeros(), memory: this.hasMemory ? zeros() : []};
    }

    // What a symbol brings to the first layer. A one-hot x_t picks a column of U, which the packed U has as a row:
    //     U x_t + b, with an embedding E: U (E x_t) + b
    inputOf(id) {
      if (this.inputs[id] === undefined) {
        const {U, b} = this.layers[0];
        const x = new Float32Array(b.length);
        if (this.embedding) multiply(U, rowOf(this.embedding, id), b, x);
        else rowOf(U, id).forEach((u, k) => { x[k] = u + b[k]; });
        this.inputs[id] = x;
      }
      return this.inputs[id];
    }

    // Moves a state on by one symbol.
    advance(state, id) {
      this.layers.forEach(({U, W, b, recurrentBias, x, a}, layer) => {
        let input = x;
        if (layer === 0) input = this.inputOf(id);
        else multiply(U, state.hidden[layer - 1], b, x);
        this.step(input, W, recurrentBias, state.hidden[layer], state.memory[layer], a);
      });
    }

    // log softmax(V_o s + b_o), with a factored output V_o (P s) + b_o.
    logProbs(state) {
      let s = state.hidden[state.hidden.length - 1];
      if (this.projection) {
        multiply(this.projection, s, this.noBias, this.features);
        s = this.features;
      }
      const result = new Float32Array(this.output.rows);
      multiply(this.output, s, this.outputBias, result);
      let most = -Infinity, sum = 0;
      for (const logit of result) if (logit > most) most = logit;
      for (const logit of result) sum += Math.exp(logit - most);
      const logZ = most + Math.log(sum);
      for (let v = 0; v < result.length; v++) result[v] -= logZ;
      return result;
    }
  }

  const rowOf = (matrix, row) => matrix.values.subarray(row * matrix.columns, (row + 1) * matrix.columns);

  const copyState = ({hidden, memory}) => {
    return {hidden: hidden.map((s) => s.slice()), memory: memory.map((c) => c.slice())};
  };

  // --------------------------------------------------------------------------------------------- unpacking weights

  function unpackBytes(base64) {
    const characters = atob(base64), bytes = new Uint8Array(characters.length);
    for (let k = 0; k < bytes.length; k++) bytes[k] = characters.charCodeAt(k);
    return bytes;
  }

  function unpackVector(base64, length) {
    return base64 === null ? new Float32Array(length) : new Float32Array(unpackBytes(base64).buffer);
  }

  // int8: w = scale of the row · q
  function unpackMatrix({rows, columns, scales, values}, format) {
    const bytes = unpackBytes(values);
    if (format === "float16") {
      return {rows, columns, values: Float32Array.from(new Uint16Array(bytes.buffer), fromFloat16)};
    }
    const scale = unpackVector(scales, rows), quantized = new Int8Array(bytes.buffer);
    const result = new Float32Array(rows * columns);
    for (let row = 0, k = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, k++) result[k] = scale[row] * quantized[k];
    }
    return {rows, columns, values: result};
  }

  // IEEE 754: a sign, 5 bits of exponent e, 10 of fraction f: ±(1 + f/1024) 2^(e-15), for e = 0 ±(f/1024) 2^-14.
  function fromFloat16(bits) {
    const sign = bits & 0x8000 ? -1 : 1, e = (bits >> 10) & 31, f = (bits & 0x3ff) / 1024;
    return e === 0 ? sign * f * 2 ** -14 : sign * (1 + f) * 2 ** (e - 15);
  }

  // ------------------------------------------------------------------------------------------------ random numbers

  // Uniform numbers in [0, 1), 53 bits each, by xoshiro128** (Blackman and Vigna 2018). The seed, a whole number,
  // is spread over its state by the mixing function of MurmurHash3.
  function randomNumbers(seed) {
    const state = new Uint32Array(4), high = Math.floor(seed / 2 ** 32);
    for (let k = 0; k < 4; k++) state[k] = mix(seed ^ Math.imul(k + 1, 0x9e3779b9)) ^ mix(high + k + 1);
    const rotate = (x, k) => (x << k) | (x >>> (32 - k));
    const next = () => {
      const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0, t = state[1] << 9;
      state[2] ^= state[0];
      state[3] ^= state[1];
      state[1] ^= state[2];
      state[0] ^= state[3];
      state[2] ^= t;
      state[3] = rotate(state[3], 11);
      return result;
    };
    return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
  }

  // The finaliser of MurmurHash3 (Appleby): every bit of h moves every bit of the result.
  function mix(h) {
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  }

  // ------------------------------------------------------------------------------ what stands in the training text

  // A Bloom filter of runs of `run` characters, from every so many places of the training text: it knows each of
  // them, and takes few others for one.
  class CopiedText {
    constructor({run, bits, hashes, data}) {
      this.run = run;
      this.bits = bits;
      this.hashes = hashes;
      this.data = unpackBytes(data);
    }

    // place_i = (h_1 + i h_2 mod 2^32) mod m
    has(h1, h2) {
      for (let i = 0; i < this.hashes; i++) {
        const place = ((h1 + Math.imul(i, h2)) >>> 0) % this.bits;
        if (!((this.data[place >>> 3] >> (place & 7)) & 1)) return false;
      }
      return true;
    }

    // 1 for each character of a run that the filter knows.
    mark(characters) {
      const points = characters.map((character) => character.codePointAt(0));
      const marks = new Uint8Array(points.length);
      for (let start = 0, end = this.run; end <= points.length; start++, end++) {
        const h1 = hashRun(points, start, end, 0x811c9dc5, 0x01000193);
        const h2 = hashRun(points, start, end, 0x9e3779b9, 0x85ebca6b);
        if (this.has(h1, h2)) marks.fill(1, start, end);
      }
      return marks;
    }
  }

  // FNV-1a over code points (Fowler, Noll and Vo), mixed.
  function hashRun(points, start, end, basis, prime) {
    let h = basis;
    for (let k = start; k < end; k++) h = Math.imul(h ^ points[k], prime);
    return mix(h);
  }

  // --------------------------------------------------------------------------------------------------------- model

  class Model {
    constructor(data, keptBytes) {
      const vocabulary = data.vocabulary;
      this.cell = data.cell;
      this.layers = data.layers.length;
      this.hiddenSize = data.hiddenSize;
      this.symbols = vocabulary.symbols;
      this.boundary = vocabulary.boundary;
      this.unknown = vocabulary.unknown;
      this.framing = vocabulary.framing;
      this.level = vocabulary.level;
      this.endsSentences = vocabulary.endsSentences; // whether the boundary is the end of a line, which has a price
      // What `copied` marks has so many characters in a row, but at so many of the places; null: it marks nothing.
      this.copiedRun = data.copied && data.copied.run;
      this.falseAlarms = data.copied && data.copied.falseAlarms;
      this._normalization = vocabulary.normalization;
      this._lowercase = vocabulary.lowercase;
      // An unknown character has an equal share of the probability of <unk>.
      this._logUnseen = Math.log(vocabulary.unseenCharacters);
      this._ids = new Map(vocabulary.symbols.map((symbol, id) => [symbol, id]));
      this._network = new Network(data);
      this._copied = data.copied && new CopiedText(data.copied);
      this._keptBytes = keptBytes;
      this._readings = []; // of texts, the last one first
    }

    // -------------------------------------------------------------------------------------------- text and symbols

    // As training read its text: ends of lines, Unicode normalisation, lower case.
    normalize(text) {
      text = text.replace(/\r\n?/g, "\n");
      if (this._normalization !== "none") text = text.normalize(this._normalization.toUpperCase());
      return this._lowercase ? text.toLowerCase() : text;
    }

    // The characters of the normalised text, and the ids of each: one, or at level "byte" as many as it has bytes.
    encode(text) {
      const characters = Array.from(this.normalize(text));
      return {characters, ids: characters.map((character) => this._idsOf(character))};
    }

    _idsOf(character) {
      if (this.level === "byte") return bytesOf(character);
      const id = this._ids.get(character);
      // Where the model reads single lines, a newline is their end, never a character of one.
      const isKnown = id !== undefined && !(this.framing === "lines" && id === this.boundary);
      return [isKnown ? id : this.unknown];
    }

    // ----------------------------------------------------------------------------------------------------- reading

    // The state at the beginning of a line: the boundary has been read.
    begin() {
      return this.read(this._network.initialState(), this.boundary);
    }

    // Moves a state on by one symbol, and returns it.
    read(state, id) {
      this._network.advance(state, id);
      return state;
    }

    // A state that does not change with the one it was copied from.
    copy(state) {
      return copyState(state);
    }

    // The log-probability of each symbol to come next.
    logProbs(state) {
      return this._network.logProbs(state);
    }

    // The states before and after each symbol of a line: `states[n]` is the one after n of them. What was read
    // before is not read again: typing at the end of a sentence costs one step.
    _reading(ids) {
      let before = {ids: [], states: [], places: []}, shared = -1; // with nothing in common
      for (const reading of this._readings) {
        let n = 0;
        while (n < ids.length && reading.ids[n] === ids[n]) n++;
        if (n > shared) before = reading, shared = n;
      }
      const states = before.states.slice(0, shared + 1);
      if (!states.length) states.push(this.begin());
      for (let n = states.length - 1; n < ids.length; n++) states.push(this.read(copyState(states[n]), ids[n]));
      const reading = {ids, states, places: before.places.slice(0, shared + 1)};
      this._keep(reading, before);
      return reading;
    }

    // Puts a reading first, in the place of the one that it goes on from, and drops the oldest ones.
    _keep(reading, before) {
      const isPrefix = before.ids.every((id, n) => id === reading.ids[n]);
      this._readings = this._readings.filter((kept) => !(isPrefix && kept === before));
      this._readings.unshift(reading);
      const stateBytes = 4 * this.hiddenSize * this.layers * (this._network.hasMemory ? 2 : 1);
      let kept = 0;
      this._readings = this._readings.filter(({states}, n) => {
        kept += states.length * stateBytes;
        return kept <= this._keptBytes || n === 0;
      });
    }

    // The price of each character of a sentence, and of its end, as `charlm score` has it: the boundary opens the
    // sentence, and closes it where the training text marks ends. `alternatives` are the likeliest others at each
    // place; at level "byte" they are first bytes.
    score(text, alternatives = 5) {
      const {characters, ids} = this.encode(text);
      const units = characters.map((character, n) => ({text: character, ids: ids[n], isEnd: false}));
      const reading = this._reading(ids.flat());
      if (this.endsSentences) units.push({text: "</s>", ids: [this.boundary], isEnd: true});
      let place = 0, total = 0;
      const scored = units.map((unit) => {
        const unknown = !unit.isEnd && unit.ids[0] === this.unknown;
        const prices = unit.ids.map((id, n) => this._price(reading, place + n, id, n ? 0 : alternatives));
        place += unit.ids.length;
        const logProb = prices.reduce((sum, price) => sum + price.logProb, unknown ? -this._logUnseen : 0);
        total += logProb;
        return {text: unit.text, logProb, unknown, isEnd: unit.isEnd, alternatives: prices[0].alternatives};
      });
      const bitsPerCharacter = scored.length ? -total / scored.length / Math.LN2 : 0;
      return {characters: scored, total, bitsPerCharacter};
    }

    // What a symbol costs at a place of a reading, and what would have been likelier; kept with the reading.
    _price(reading, place, id, alternatives) {
      const kept = reading.places[place];
      if (kept && kept.id === id && kept.wanted === alternatives) return kept;
      const logProbs = this.logProbs(reading.states[place]);
      const price = {id, wanted: alternatives, logProb: logProbs[id], alternatives: []};
      price.alternatives = this._likeliestOthers(logProbs, id, alternatives);
      reading.places[place] = price;
      return price;
    }

    _likeliestOthers(logProbs, id, count) {
      const best = []; // ids, likeliest first
      for (let v = 0; v < logProbs.length && count > 0; v++) {
        if (v === id || v === this.unknown) continue;
        if (best.length === count && logProbs[v] <= logProbs[best[count - 1]]) continue;
        let place = best.length;
        while (place > 0 && logProbs[v] > logProbs[best[place - 1]]) place--;
        best.splice(place, 0, v);
        if (best.length > count) best.pop();
      }
      return best.map((v) => {
        const isEnd = v === this.boundary && this.endsSentences;
        return {text: isEnd ? "</s>" : this.symbols[v], logProb: logProbs[v], isEnd};
      });
    }

    // The state of one unit after each character of the normalised text. Layers count from 1, units from 0.
    activations(text, layer, unit) {
      if (!(layer >= 1 && layer <= this.layers && unit >= 0 && unit < this.hiddenSize)) {
        throw new RangeError(`no unit ${unit} in layer ${layer}`);
      }
      const {ids} = this.encode(text), {states} = this._reading(ids.flat());
      let read = 0;
      return Float32Array.from(ids, (own) => states[(read += own.length)].hidden[layer - 1][unit]);
    }

    // 1 for each character of the normalised text inside a run that stands in the training text. Every run of 20 or
    // more is found, but for at most 20 - `copiedRun` characters at either of its ends, and some of `copiedRun` or
    // more; `falseAlarms` is how often a place is taken for the beginning of one. null: the page does not know the
    // training text.
    copied(text) {
      return this._copied && this._copied.mark(Array.from(this.normalize(text)));
    }

    // ----------------------------------------------------------------------------------------------------- writing

    // Why the model cannot go on from this text, or stop at it; null if it can.
    writeError(text, name = "the prompt") {
      const {characters, ids} = this.encode(text);
      if (this.framing === "lines" && characters.includes("\n")) {
        return `${name} has more than one line, but this model writes single lines; give one line`;
      }
      const unknown = characters.filter((_, n) => ids[n][0] === this.unknown);
      if (!unknown.length) return null;
      const names = Array.from(new Set(unknown)).slice(0, 8).join(" ");
      return `${name} has characters that the model has never seen: ${names}; leave them out`;
    }

    // Yields characters, one by one, that go on from a prompt: `length` of them, fewer where they end with `stop`
    // (which is yielded too), or where the model writes single lines and ends its line. A temperature of 0 takes
    // the likeliest; topP leaves out what is beyond the likeliest symbols that make up this much of the probability
    // (Holtzman et al. 2020). The same seed, a whole number from 0, gives the same text. Throws what `writeError`
    // says.
    *write({prompt = "", length = 200, temperature = 1, topP = 1, seed = 0, stop = ""} = {}) {
      const problem = this.writeError(prompt) || this.writeError(stop, "the stop text");
      if (problem) throw new RangeError(problem);
      const ids = this.encode(prompt).ids.flat(), {states} = this._reading(ids);
      const state = copyState(states[ids.length]), random = randomNumbers(seed);
      const ending = this.normalize(stop), endId = this.framing === "lines" ? this.boundary : null;
      const decoder = new TextDecoder("utf-8", {ignoreBOM: true});
      // Training leaves empty lines out, so no line ends where it begins.
      let excluded = endId !== null && !ids.length && this.symbols.length > 2 ? endId : null;
      let left = length, written = "";
      while (left > 0) {
        const logProbs = this.logProbs(state);
        if (excluded !== null) logProbs[excluded] = -Infinity;
        if (this.unknown !== null) logProbs[this.unknown] = -Infinity;
        excluded = null;
        const id = choose(logProbs, temperature, topP, random());
        const isEnd = id === endId;
        // Bytes are held back until they make a character; the end of the text lets go of them.
        let piece = isEnd ? "" : this.symbols[id];
        if (this.level === "byte") piece = decoder.decode(Uint8Array.from(isEnd ? [] : [id]), {stream: !isEnd});
        for (const character of piece) {
          left--;
          yield character;
          written = ending && (written + character).slice(-ending.length);
          if (left === 0 || (ending && written === ending)) return;
        }
        if (isEnd) return;
        this.read(state, id);
      }
    }
  }

  // Draws a symbol: the first whose cumulative probability is above u times the sum.
  //     p ∝ exp(log p / temperature); then the smallest set of likeliest symbols whose sum reaches topP
  function choose(logProbs, temperature, topP, u) {
    let likeliest = 0;
    for (let v = 1; v < logProbs.length; v++) if (logProbs[v] > logProbs[likeliest]) likeliest = v;
    if (temperature === 0) return likeliest;
    const most = logProbs[likeliest], T = Math.max(temperature, 1e-30);
    const p = new Float64Array(logProbs.length), order = [];
    let sum = 0;
    for (let v = 0; v < p.length; v++) sum += p[v] = Math.exp((logProbs[v] - most) / T);
    // Only what can be drawn is sorted: less likely ones than these are together less than the 1 - topP left out.
    const least = topP < 1 ? (1 - topP) * sum / p.length : 0;
    for (let v = 0; v < p.length; v++) if (p[v] > 0 && p[v] >= least) order.push(v);
    if (topP < 1) {
      order.sort((v, w) => p[w] - p[v]); // a stable sort: equally likely ones stay in the vocabulary's order
      let n = 0, kept = 0;
      while (n < order.length && (n === 0 || kept < topP * sum)) kept += p[order[n++]];
      order.length = n;
      sum = kept;
    }
    let cumulative = 0;
    for (const v of order) if ((cumulative += p[v]) > u * sum) return v;
    return order[order.length - 1]; // rounding may step behind it
  }

  // UTF-8. A lone surrogate from U+DC80 to U+DCFF stands for a byte that was not UTF-8, as everywhere in Python.
  function bytesOf(character) {
    const point = character.codePointAt(0);
    if (point >= 0xdc80 && point <= 0xdcff) return [point - 0xdc00];
    return Array.from(new TextEncoder().encode(character));
  }

  // A model from what `pack_network` made, parsed. It keeps so many bytes of states after the symbols of texts that
  // it has read.
  return {load: (data, keptBytes = 64 * 2 ** 20) => new Model(data, keptBytes)};
})();
