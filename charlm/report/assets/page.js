// What is seen: the shaded texts, their cursors and panels, the controls, and the chooser of runs.
//
// The texts and numbers of a run stand in the element `rN-data`, its network in `rN-network`; `page.py` says what is in
// them, `model.js` computes with the network. Log-probabilities are in nats there, and bits here.

"use strict";

(() => {
  const find = (root, selector) => root.querySelector(selector);
  const findAll = (root, selector) => Array.from(root.querySelectorAll(selector));
  const bits = (logProb) => -logProb / Math.LN2;
  const percent = (logProb) => {
    const share = 100 * Math.exp(logProb);
    if (share < 0.01) return "<\u00a00.01\u00a0%";
    return share >= 99.95 ? ">\u00a099.9\u00a0%" : `${share.toFixed(share >= 99 || share < 10 ? (share < 1 ? 2 : 1) : 0)}\u00a0%`;
  };

  function make(tag, className = "", text = "") {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  }

  // ---------------------------------------------------------------------------------------------- characters, visibly

  // Controls, marks that turn the direction of writing, what has no width, and halves of surrogate pairs.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/;

  // What to draw for a character, and a name that can be spoken.
  function visible(character) {
    if (character === "</s>") return {text: "⏎", kind: "invisible", name: "end of the line"};
    if (character === "\n") return {text: "⏎\n", kind: "invisible", name: "new line"};
    if (character === "\t") return {text: "⇥\t", kind: "invisible", name: "tab"};
    if (character === " ") return {text: " ", kind: "", name: "space"};
    if ([...character].length === 1 && !(character.length === 1 && UNSEEN.test(character))) {
      return {text: character, kind: "", name: character};
    }
    if (/^\\x[0-9a-f]{2}$/.test(character)) return {text: character, kind: "label", name: `byte ${character.slice(2)}`};
    const point = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return {text: `U+${point}`, kind: "label", name: `U+${point}`};
  }

  // A character of a text that is shown as it is, but in one line and without what would disturb it.
  const readable = (character) => (character === "\n" ? "⏎" : character.length === 1 && UNSEEN.test(character) ? visible(character).text : character);

  const shown = (character) => ({" ": "␣", "\n": "⏎"})[character] || visible(character).text.trim();

  // ------------------------------------------------------------------------------------- a text with a cursor on it

  let texts = 0;

  // A text of which each character can be pointed at: by a mouse that stands on it, a tap, or a cursor that the arrow
  // keys move. `describe(index)` returns what the panel shows and what is read out.
  class Text {
    constructor(box, panel, describe) {
      this.box = box;
      this.panel = panel;
      this.describe = describe;
      this.spans = [];
      this.cursor = -1;
      this.name = `text-${texts++}`;
      box.addEventListener("keydown", (event) => this.onKey(event));
      box.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.preview(event.target));
      box.addEventListener("pointerleave", () => this.describeAt(this.cursor));
      box.addEventListener("click", (event) => this.moveTo(this.indexOf(event.target)));
    }

    // Shows characters, each with the classes that mark it.
    show(characters, classes) {
      this.spans = characters.map((character, index) => {
        const {text, kind} = visible(character);
        const span = make("span", `${classes[index]} ${kind}`.trim(), text);
        span.id = `${this.name}-${index}`;
        span.setAttribute("role", "option");
        return span;
      });
      this.box.replaceChildren(...this.spans);
      this.cursor = -1;
      this.box.removeAttribute("aria-activedescendant");
    }

    mark(classes) {
      this.spans.forEach((span, index) => {
        const isAt = index === this.cursor ? " at" : "";
        const kind = ["invisible", "label"].filter((name) => span.classList.contains(name)).join(" ");
        span.className = `${classes[index]} ${kind}${isAt}`.trim();
      });
    }

    indexOf(element) {
      return element === this.box ? -1 : this.spans.indexOf(element);
    }

    preview(element) {
      const index = this.indexOf(element);
      if (index >= 0) this.describeAt(index);
    }

    describeAt(index) {
      if (!this.spans[index]) return "";
      const {nodes, name} = this.describe(index);
      if (this.panel) this.panel.replaceChildren(...nodes);
      return name;
    }

    moveTo(index) {
      const span = this.spans[index];
      if (!span) return;
      const before = this.spans[this.cursor];
      if (before) {
        before.classList.remove("at");
        before.removeAttribute("aria-selected");
      }
      this.cursor = index;
      span.classList.add("at");
      span.setAttribute("aria-selected", "true");
      span.setAttribute("aria-label", this.describeAt(index));
      this.box.setAttribute("aria-activedescendant", span.id);
      const {top, bottom} = span.getBoundingClientRect(), around = this.box.getBoundingClientRect();
      if (top < around.top) this.box.scrollTop -= around.top - top + 8;
      if (bottom > around.bottom) this.box.scrollTop += bottom - around.bottom + 8;
    }

    onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const to = {
        ArrowLeft: () => this.cursor - 1,
        ArrowRight: () => this.cursor + 1,
        ArrowUp: () => this.besideLine(-1),
        ArrowDown: () => this.besideLine(1),
        Home: () => 0,
        End: () => this.spans.length - 1,
      }[event.key];
      if (!to || !this.spans.length) return;
      event.preventDefault();
      this.moveTo(Math.min(this.spans.length - 1, Math.max(0, to())));
    }

    // The character above or below the cursor.
    besideLine(direction) {
      const here = this.spans[this.cursor];
      if (!here) return 0;
      let best = this.cursor, line = null;
      for (let n = this.cursor + direction; this.spans[n]; n += direction) {
        const {offsetTop, offsetLeft} = this.spans[n];
        if (Math.abs(offsetTop - here.offsetTop) < 4) continue;
        if (line !== null && Math.abs(offsetTop - line) >= 4) break;
        const isNearer = Math.abs(offsetLeft - here.offsetLeft) < Math.abs(this.spans[best].offsetLeft - here.offsetLeft);
        if (line === null || isNearer) best = n;
        line = offsetTop;
      }
      return best;
    }
  }

  // ------------------------------------------------------------------------------------------------- parts of a panel

  const shadeOf = (logProb, bounds) => `s${bounds.filter((bound) => bits(logProb) >= bound).length}`;

  function meter(share, style) {
    const outer = make("span", `meter n${style}`), inner = make("i");
    inner.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
    outer.append(inner);
    return outer;
  }

  function row(name, share, value, {wide = false, style = 0, key = true} = {}) {
    const line = make("div", wide ? "row wide" : "row"), head = make("span");
    head.append(key ? make("kbd", "", name) : name);
    line.append(head, meter(share, style), make("span", "", value));
    return line;
  }

  function headOf(character, logProb, unknown) {
    const price = `${bits(logProb).toFixed(2)} bits, probability ${percent(logProb)}`;
    return [make("div", "char", shown(character)), make("div", "what", unknown ? `${price}; not in the vocabulary` : price)];
  }

  // The character that came, and what else was likely.
  function alternativesOf(character, logProb, alternatives, unknown) {
    const all = [{text: character, logProb, isTrue: true}, ...alternatives.map(([text, value]) => ({text, logProb: value}))];
    const seen = new Set();
    const rows = all
      .filter(({text}) => !seen.has(text) && seen.add(text))
      .sort((a, b) => b.logProb - a.logProb)
      .map(({text, logProb: value, isTrue}) => row(shown(text), Math.exp(value), percent(value), {style: isTrue ? 1 : 0}));
    const likely = alternatives.slice(0, 3).map(([text, value]) => `${visible(text).name} ${percent(value)}`).join(", ");
    const name = `${visible(character).name}: ${bits(logProb).toFixed(1)} bits${unknown ? ", unknown" : ""}. Also likely: ${likely}`;
    return {nodes: [...headOf(character, logProb, unknown), ...rows], name};
  }

  // ------------------------------------------------------------------------------------------------------- 1 try it

  const ANNOUNCE_MILLISECONDS = 900; // after the last key, before the total is read out
  const SLOW_MILLISECONDS = 60; // that reading may take while one types; if it takes more, it waits for a pause
  const PAUSE_MILLISECONDS = 250;
  const FRAME_MILLISECONDS = 14; // of writing at a time, so that the page stays alive
  const REMEMBERED_LINES = 300;
  const COPY_CHECK_CHARACTERS = 25; // written between two looks at what was copied

  function tryIt(section, data, model) {
    const input = find(section, ".input"), total = find(section, ".total"), announce = find(section, ".announce");
    const ranking = find(section, ".ranking"), chooser = find(section, ".chooser");
    const layer = find(section, ".layer"), unit = find(section, ".unit"), state = find(section, ".state");
    const area = find(section, ".text");
    const scored = new Map(); // of each line
    let characters = [], activations = [], byUnit = false, composing = false, timer = 0, pending = 0, cost = 0;

    const text = new Text(area, find(section, ".panel"), (index) => {
      const {text: character, logProb, unknown, alternatives} = characters[index];
      const {nodes, name} = alternativesOf(character, logProb, alternatives.map((a) => [a.text, a.logProb]), unknown);
      if (!byUnit) return {nodes, name};
      const value = activations[index] === null ? "nothing" : activations[index].toFixed(3);
      const what = `${ofMemory() ? "memory cell of " : ""}unit ${unit.value} of layer ${layer.value}: ${value}`;
      return {nodes: [make("div", "char", shown(character)), make("div", "what", what), ...nodes.slice(2)], name: `${visible(character).name}: ${what}`};
    });

    function score(line) {
      if (!scored.has(line)) {
        if (scored.size > REMEMBERED_LINES) scored.clear();
        scored.set(line, model.score(line));
      }
      return scored.get(line);
    }

    const ofMemory = () => state !== null && state.value === "c";

    // The state of the unit after each character; of an LSTM also its memory cell, which may go beyond 1.
    function activationsOf(line) {
      if (!ofMemory()) return Array.from(model.activations(line, Number(layer.value), Number(unit.value)));
      const reading = model.begin();
      return model.encode(line).ids.map((ids) => {
        for (const id of ids) model.read(reading, id);
        return reading.memory[Number(layer.value) - 1][Number(unit.value)];
      });
    }

    const classes = () => byUnit
      ? activations.map((value) => (value === null ? "" : `u${Math.round(4 * Math.max(-1, Math.min(1, value)))}`))
      : characters.map(({logProb, unknown}) => (unknown ? "unknown" : shadeOf(logProb, data.shades)));

    function light() {
      if (byUnit) {
        activations = lines().flatMap((line) => {
          const values = activationsOf(line);
          return score(line).characters.map((_, index) => (index < values.length ? values[index] : null));
        });
      }
      text.mark(classes());
      text.describeAt(text.cursor);
    }

    const lines = () => {
      const found = model.normalize(input.value).split("\n").filter((line) => line.trim());
      return found.length ? found : [""];
    };

    function update() {
      const began = performance.now();
      clearTimeout(pending);
      showAll();
      area.removeAttribute("aria-busy");
      cost = performance.now() - began;
    }

    // As one types: at once, unless the network is too large for that.
    function updateSoon() {
      clearTimeout(pending);
      if (cost < SLOW_MILLISECONDS) { update(); return; }
      area.setAttribute("aria-busy", "true"); // what it shows is not what was typed
      pending = setTimeout(update, PAUSE_MILLISECONDS);
    }

    function showAll() {
      const each = lines().map((line) => ({line, ...score(line)}));
      characters = each.flatMap((one, number) => {
        const isLast = number === each.length - 1, own = one.characters;
        const mark = own.length && own[own.length - 1].isEnd && !isLast ? {...own[own.length - 1], text: "\n"} : null;
        return mark ? [...own.slice(0, -1), mark] : own;
      });
      activations = characters.map(() => null);
      text.show(characters.map((one) => one.text), characters.map(() => ""));
      light();
      const dearest = characters.reduce((best, one, n) => (one.logProb < characters[best].logProb ? n : best), 0);
      if (characters.length) text.describeAt(dearest);
      const sum = each.reduce((all, one) => all + one.total, 0), count = characters.length;
      const mean = count ? bits(sum) / count : 0;
      total.replaceChildren(make("strong", "", mean.toFixed(2)), ` bits per character; ${bits(sum).toFixed(1)} bits in all, for ${count} characters${model.endsSentences ? ", the end of the line among them" : ""}.`);
      clearTimeout(timer);
      timer = setTimeout(() => { announce.textContent = `${mean.toFixed(2)} bits per character`; }, ANNOUNCE_MILLISECONDS);
      rank(each);
    }

    function rank(each) {
      ranking.hidden = each.length < 2;
      if (ranking.hidden) return;
      const ranked = each
        .map((one) => ({...one, mean: one.characters.length ? one.total / one.characters.length : 0}))
        .sort((a, b) => b.mean - a.mean);
      const table = make("table"), head = make("tr"), body = make("tbody"), top = make("thead");
      for (const [name, kind] of [["Rank", "number"], [`Bits per character`, "number"], ["Bits", "number"], ["Line", ""]]) {
        const cell = make("th", kind, name);
        cell.scope = "col";
        head.append(cell);
      }
      let place = 0;
      ranked.forEach((one, n) => {
        if (n === 0 || Math.abs(one.mean - ranked[n - 1].mean) > 1e-9) place = n + 1;
        const tr = make("tr"), line = make("td", "", one.line);
        line.lang = input.lang;
        line.dir = "auto";
        tr.append(make("td", "number", String(place)), make("td", "number", bits(one.mean).toFixed(3)), make("td", "number", bits(one.total).toFixed(1)), line);
        body.append(tr);
      });
      top.append(head);
      table.append(make("caption", "unseen", "Your lines, the likeliest first, by mean log-probability"), top, body);
      ranking.replaceChildren(table);
    }

    // An input method shows what is being composed; it is text when it is done.
    input.addEventListener("compositionstart", () => { composing = true; });
    input.addEventListener("compositionend", () => { composing = false; update(); });
    input.addEventListener("input", (event) => { if (!composing && !event.isComposing) updateSoon(); });

    for (const radio of findAll(section, ".shade input[type=radio]")) {
      radio.addEventListener("change", () => {
        byUnit = radio.value === "unit";
        chooser.hidden = !byUnit;
        find(section, ".shades").hidden = byUnit;
        light();
      });
    }
    const isThere = (field) => field === null || (field.value !== "" && field.checkValidity());
    for (const field of [layer, unit, state].filter((one) => one !== null)) {
      field.addEventListener("input", () => { if ([layer, unit, state].every(isThere)) light(); });
    }
    // A unit that was found in part 6, on the reader's own text.
    for (const button of findAll(section.parentElement, "button.use")) {
      button.addEventListener("click", () => {
        layer.value = button.dataset.layer;
        unit.value = button.dataset.unit;
        if (state !== null) state.value = button.dataset.state;
        const radio = find(section, "input[value=unit]");
        radio.checked = true;
        radio.dispatchEvent(new Event("change"));
        input.focus();
      });
    }
    update();
    writeOn(find(section, ".write"), () => input.value, data, model);
  }

  function writeOn(form, prompt, data, model) {
    const written = find(form, ".written"), wrote = find(form, ".wrote"), stop = find(form, ".stop"), start = find(form, ".primary");
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let running = 0; // the number of the writing that may go on

    for (const slider of findAll(form, "input[type=range]")) {
      slider.addEventListener("input", () => { find(slider.parentElement, "output").value = Number(slider.value).toFixed(2); });
    }

    // Shows a text, what was copied from the training text marked; returns how many characters that are.
    function show(before, text) {
      const all = Array.from(before).concat(text), marks = model.copied(all.join(""));
      const nodes = [make("span", "prompt", before)], own = Array.from(before).length;
      let copied = 0, start = own;
      const isCopied = (n) => Boolean(marks && marks[n]);
      for (let n = own; n <= all.length; n++) {
        if (n < all.length && isCopied(n)) copied++;
        if (n < all.length && isCopied(n) === isCopied(start)) continue;
        if (n > start) nodes.push(make(isCopied(start) ? "mark" : "span", isCopied(start) ? "copied" : "", all.slice(start, n).map(safe).join("")));
        start = n;
      }
      written.replaceChildren(...nodes);
      return marks ? copied : null;
    }

    const safe = (character) => (character.length === 1 && UNSEEN.test(character) ? visible(character).text : character);

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const value = (name) => form.elements.namedItem(name).value;
      const normalized = model.normalize(prompt());
      const before = model.framing === "lines" ? normalized.split("\n").filter((line) => line.trim()).pop() || "" : normalized;
      const problem = model.writeError(before) || (value("stop") && model.writeError(value("stop")));
      if (problem) {
        wrote.textContent = `Cannot write: ${problem}.`;
        return;
      }
      const number = ++running, text = [];
      const pieces = model.write({
        prompt: before, length: Math.max(1, Number(value("count")) || 1), temperature: Number(value("temperature")),
        topP: Number(value("topP")), seed: Number(value("seed")) || 0, stop: value("stop"),
      });
      let checked = 0;
      written.hidden = false;
      stop.disabled = false;
      wrote.textContent = "writing …";
      const plain = make("span");
      show(before, []);
      written.append(plain);

      function finish(isStopped) {
        const copied = show(before, text), count = `${text.length} characters${isStopped ? ", then stopped" : ""}`;
        stop.disabled = true;
        wrote.textContent = copied === null ? `${count}. This page cannot know how much of it was copied.`
          : copied === 0 ? `${count}. No piece of 20 characters or more occurs in the training text.`
          : `${count}, of which ${copied} are marked: they belong to pieces of 20 characters or more that occur in the training text.`;
      }

      function goOn() {
        if (number !== running) return finish(true);
        const until = performance.now() + FRAME_MILLISECONDS;
        do {
          const {value: character, done} = pieces.next();
          if (done) {
            running++;
            return finish(false);
          }
          text.push(character);
        } while (performance.now() < until);
        if (!isCalm) {
          if (text.length - checked >= COPY_CHECK_CHARACTERS) {
            checked = text.length;
            show(before, text);
          } else {
            written.append(text.slice(written.dataset.length).map(safe).join(""));
          }
          written.dataset.length = text.length;
          written.scrollTop = written.scrollHeight;
        }
        setTimeout(goOn, 0);
      }
      written.dataset.length = 0;
      setTimeout(goOn, 0);
    });
    stop.addEventListener("click", () => {
      running++;
      start.focus();
    });
  }

  // ------------------------------------------------------------------------------------------ 2 what it wrote, when

  function samples(box, data) {
    const slider = find(box, "input"), sample = find(box, ".sample"), when = find(box, ".when");
    const show = () => {
      const [text, step] = data.samples[Number(slider.value)];
      sample.textContent = text;
      when.textContent = step;
      slider.setAttribute("aria-valuetext", step);
    };
    slider.addEventListener("input", show);
    show();
  }

  // ------------------------------------------------------------------------- 3 held-out text, 4 who knew its characters

  function excerpt(reader, data) {
    const {texts: characters, known, logProbs, alternatives} = data.excerpt;
    const text = new Text(find(reader, ".text"), find(reader, ".panel"), (index) =>
      alternativesOf(characters[index], logProbs[index], pairsOf(alternatives[index]), !known[index]));
    text.show(characters, characters.map((_, n) => (known[n] ? shadeOf(logProbs[n], data.shades) : "unknown")));
    text.describeAt(0);
  }

  const pairsOf = (flat) => flat.flatMap((text, n) => (n % 2 ? [] : [[text, flat[n + 1]]]));

  function whoKnew(reader, data) {
    const {texts: characters, known, logProbs, experts, kindOf, decided, matches} = data.excerpt;
    const text = new Text(find(reader, ".text"), find(reader, ".panel"), (index) => {
      const nodes = headOf(characters[index], logProbs[index], !known[index]);
      const said = [], winner = data.experts[decided[index]];
      if (data.experts.length > 1) {
        nodes.push(make("h5", "", "probability by each expert alone"));
        experts[index].forEach((value, n) => {
          nodes.push(row(data.experts[n], Math.exp(value), percent(value), {wide: true, style: n, key: false}));
          said.push(`${data.experts[n]} ${percent(value)}`);
        });
        if (kindOf[index] >= 0) nodes.push(make("h5", "", `known context: ${data.kinds[kindOf[index]]}`));
        said.push(winner ? `${winner} decided` : "they agree");
      }
      const match = matches[index];
      if (match) {
        const [length, around, after, followedBy, agrees] = match, quote = make("p", "quote"), before = Array.from(around);
        const own = before.splice(Math.max(0, before.length - length)).map(readable).join("");
        nodes.push(make("h5", "", `longest context in the training text: ${length}`));
        quote.append(`…${before.map(readable).join("")}`, make("mark", "", own), make("kbd", "", shown(followedBy)), `${Array.from(after).map(readable).join("")}…`);
        nodes.push(quote, make("div", "what", agrees ? "The training text continues in the same way." : "The training text continues differently."));
        said.push(`longest context in the training text: ${length} characters`);
      }
      return {nodes, name: `${visible(characters[index]).name}: ${bits(logProbs[index]).toFixed(1)} bits. ${said.join(", ")}`};
    });
    text.show(characters, decided.map((expert) => (expert >= 0 ? `e${expert}` : "")));
    const telling = matches.findIndex((match, n) => match && match[0] >= 8 && decided[n] !== 0);
    text.describeAt(Math.max(0, telling));
  }

  // --------------------------------------------------------------------------------------------- 5 what it looks back at

  const MOVES = [0.04, 0.12, 0.3, 0.6]; // shares of the largest move, from which each shade begins

  function connectivity(box, data) {
    const places = find(box, ".places"), context = find(box, ".context"), told = find(box, ".told");
    let chosen = 0;
    const options = data.connected.map(([before, target], index) => {
      const option = make("div", "", `${Array.from(before).slice(-18).map(shown).join("").replaceAll("␣", " ")}`);
      option.append(make("span", "target", shown(target)));
      option.id = `${places.id || box.parentElement.id}-place-${index}`;
      option.setAttribute("role", "option");
      return option;
    });
    places.replaceChildren(...options);

    function show(index) {
      const [before, target, moves] = data.connected[index], most = Math.max(...moves, 1e-30);
      const spans = Array.from(before).map((character, n) => {
        const level = MOVES.filter((share) => moves[n] / most >= share).length;
        return make("span", level ? `k${level}` : "", visible(character).text);
      });
      const strongest = moves.reduce((best, move, n) => (move > moves[best] ? n : best), 0);
      const half = moves.reduce((sum, move) => sum + move, 0) / 2;
      let near = 0, sum = 0;
      while (near < moves.length && sum < half) sum += moves[moves.length - ++near];
      context.replaceChildren(...spans, make("span", "target", shown(target)));
      told.textContent = `The last ${near} of ${moves.length} characters have half of the influence; the strongest one is ${moves.length - strongest} back.`;
      return told.textContent;
    }

    function choose(index) {
      options[chosen].removeAttribute("aria-selected");
      chosen = Math.min(options.length - 1, Math.max(0, index));
      options[chosen].setAttribute("aria-selected", "true");
      options[chosen].setAttribute("aria-label", show(chosen));
      places.setAttribute("aria-activedescendant", options[chosen].id);
      const {offsetTop, offsetHeight} = options[chosen];
      const top = offsetTop - places.offsetTop;
      if (top < places.scrollTop) places.scrollTop = top;
      if (top + offsetHeight > places.scrollTop + places.clientHeight) places.scrollTop = top + offsetHeight - places.clientHeight;
    }

    places.addEventListener("keydown", (event) => {
      const to = {ArrowDown: chosen + 1, ArrowUp: chosen - 1, Home: 0, End: options.length - 1}[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(to);
    });
    const optionAt = (event) => options.indexOf(event.target.closest("[role=option]"));
    places.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse" && optionAt(event) >= 0) show(optionAt(event)); });
    places.addEventListener("pointerleave", () => show(chosen));
    places.addEventListener("click", (event) => { if (optionAt(event) >= 0) choose(optionAt(event)); });
    choose(0);
  }

  // --------------------------------------------------------------------------------------------------------- 6 units

  function unit(article, data) {
    const [excerptText, values] = data.findings[Number(article.dataset.finding)];
    const characters = Array.from(excerptText), value = find(article, ".value");
    if (!characters.length) return;
    const text = new Text(find(article, ".text"), null, (index) => {
      const name = `${visible(characters[index]).name}: ${values[index].toFixed(2)}`;
      value.textContent = `activation at ${name}`;
      return {nodes: [], name};
    });
    const most = Math.max(1, ...values.map(Math.abs)); // a memory cell may go beyond 1
    text.show(characters, values.map((activation) => `u${Math.round((4 * activation) / most)}`));
    value.textContent = "Point at a character to see the activation there.";
  }

  // ------------------------------------------------------------------------------------------------- runs and chooser

  const begun = new Set();
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  // Brings a run to life when it is first seen.
  function begin(run) {
    if (begun.has(run.id)) return;
    begun.add(run.id);
    const data = read(`${run.id}-data`);
    const parts = [
      [".try", (section) => tryIt(section, data, charlm.load(read(`${run.id}-network`)))],
      [".samples", (box) => samples(box, data)],
      [`#${run.id}-excerpt`, (reader) => excerpt(reader, data)],
      [`#${run.id}-who`, (reader) => whoKnew(reader, data)],
      [".connectivity", (box) => connectivity(box, data)],
    ];
    for (const [selector, start] of parts) for (const element of findAll(run, selector)) start(element);
    for (const article of findAll(run, "article.unit")) unit(article, data);
    find(run, ".contents details").open = matchMedia("(min-width: 72rem)").matches;
  }

  function chooser(tabs) {
    const choose = (tab) => {
      for (const other of tabs) {
        const isChosen = other === tab;
        other.setAttribute("aria-selected", String(isChosen));
        other.tabIndex = isChosen ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
      }
      begin(document.getElementById(tab.getAttribute("aria-controls")));
    };
    tabs.forEach((tab, n) => {
      tab.addEventListener("click", () => choose(tab));
      tab.addEventListener("keydown", (event) => {
        const to = {ArrowRight: n + 1, ArrowLeft: n - 1, Home: 0, End: tabs.length - 1}[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = tabs[(to + tabs.length) % tabs.length];
        next.focus();
        choose(next);
      });
    });
  }

  // On paper, what is folded up on the screen is there too.
  function unfoldForPaper() {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = findAll(document, ".parts details:not([open])");
      for (const details of opened) details.open = true;
    });
    addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
  }

  unfoldForPaper();
  chooser(findAll(document, "[role=tab]"));
  begin(find(document, ".run:not([hidden])"));
})();
