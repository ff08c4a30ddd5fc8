// The operating-point explorer: reads the data in the page, moves with the sliders, fetches nothing.
// The formulas are those of raresight/report/explorer.py, and the browser tests compare the two.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const live = document.getElementById("explorer-live");
  const get = (id) => document.getElementById("ex-" + id);
  const state = { arm: 0, class: 0, step: 0, prevalence: 0, cost: 1 };
  let speaking = 0;

  // ---- arithmetic -------------------------------------------------------------------------------------------------

  const record = () => data.arms[state.arm].classes[state.class];
  const ppv = (se, sp, pi) => over(se * pi, se * pi + (1 - sp) * (1 - pi));
  const npv = (se, sp, pi) => over(sp * (1 - pi), (1 - se) * pi + sp * (1 - pi));
  const alarms = (se, sp, pi) => 1000 * (se * pi + (1 - sp) * (1 - pi));
  const benefit = (se, sp, pi, cost) => 1000 * (se * pi - ((1 - sp) * (1 - pi)) / cost);
  function over(part, whole) { return whole > 0 ? part / whole : null; }

  function rates(r, step) {
    const se = [r.tp[step] / r.positives, r.recall_low[step], r.recall_high[step]];
    const sp = [1 - r.fp[step] / r.negatives, r.specificity_low[step], r.specificity_high[step]];
    return { se: se, sp: sp };
  }

  // Value, low, high. Sensitivity and specificity are put at their bounds together; net benefit, a sum of the two,
  // adds their distances in squares.
  function figures(r, step, pi, cost) {
    const { se, sp } = rates(r, step);
    const both = (f) => [f(se[0], sp[0]), f(se[1], sp[1]), f(se[2], sp[2])];
    const right = predictive(both((a, b) => ppv(a, b, pi)));
    const net = benefits(se, sp, pi, cost);
    return {
      recall: se,
      specificity: sp,
      ppv: right,
      npv: predictive(both((a, b) => npv(a, b, pi))),
      alarms_per_1000: [alarms(se[0], sp[0], pi), alarms(se[1], sp[2], pi), alarms(se[2], sp[1], pi)],
      misses_per_100000: [se[0], se[2], se[1]].map((a) => 1e5 * pi * (1 - a)),
      number_needed_to_read: [right[0], right[2], right[1]].map((share) => (share ? 1 / share : null)),
      net_benefit: net,
      expected_cost: [net[0], net[2], net[1]].map((v) => cost * (1000 * pi - v)),
    };
  }

  // Undefined without alarms; a bound that is undefined excludes nothing.
  function predictive(triple) {
    if (triple[0] === null) return [null, null, null];
    return [triple[0], triple[1] === null ? 0 : triple[1], triple[2] === null ? 1 : triple[2]];
  }

  function benefits(se, sp, pi, cost) {
    const value = benefit(se[0], sp[0], pi, cost);
    const away = (k) => 1000 * Math.hypot(pi * (se[k] - se[0]), ((1 - pi) / cost) * (sp[k] - sp[0]));
    return [value, value - away(1), value + away(2)];
  }

  function cheapest(r, pi, cost) {
    let best = 0;
    let least = Infinity;
    for (let i = 0; i < r.t.length; i += 1) {
      const here = figures(r, i, pi, cost).expected_cost[0];
      if (here <= least + 1e-9) { best = i; least = Math.min(least, here); }
    }
    return best;
  }

  // ---- words ------------------------------------------------------------------------------------------------------

  const grouped = (v) => Math.round(v).toLocaleString("en-US");

  function share(v) {
    if (v > 0 && v < 0.0005) return "<0.1%";
    if (v > 0.9995 && v < 1) return ">99.9%";
    return (100 * v).toFixed(1) + "%";
  }

  function count(v) {
    const size = Math.abs(v);
    const sign = v < 0 ? "−" : "";
    if (size > 0 && size < 0.05) return sign + "<0.1";
    return sign + (size < 9.95 ? size.toFixed(1) : grouped(size));
  }

  const SHARES = ["recall", "specificity", "ppv", "npv"];
  const written = (key, v) => (SHARES.includes(key) ? share(v) : count(v));

  function interval(key, low, high) {
    if (low === null && high === null) return "";
    return "(" + (low === null ? "" : written(key, low) + " to ") + (high === null ? "unbounded" : written(key, high)) + ")";
  }

  function undefinedFor(key, low) {
    if (key === "npv") return "every case alarms";
    return low === null ? "no case alarms" : "no alarm is right";
  }

  function rarity(v) {
    const digits = v >= 0.1 ? 0 : Math.max(1, 1 - Math.floor(Math.log10(100 * v)));
    return (100 * v).toFixed(digits) + "%";
  }

  const threshold = (t) => (t === null ? "above every score" : t >= 0.001 ? t.toFixed(3) : t.toPrecision(2));
  const alarmsWorth = (c) => (c < 10 ? String(Number(c.toPrecision(2))) : grouped(c)) + (c === 1 ? " false alarm" : " false alarms");

  // ---- drawing ----------------------------------------------------------------------------------------------------

  const X = (u) => 36 + 196 * Math.min(1, Math.max(0, u));
  const Y = (v) => 160 - 152 * Math.min(1, Math.max(0, v));
  const at = (u, v) => X(u).toFixed(1) + " " + Y(v).toFixed(1);
  const line = (points) => (points.length ? "M" + points.map((p) => at(p[0], p[1])).join("L") : "");
  const band = (low, high) => line(low.concat(high.slice().reverse())) + "Z";
  const span = (n) => Array.from({ length: n + 1 }, (_, i) => i / n);
  const decades = (v) => (Math.log10(v) + 5) / 5;

  function piece(plot, name) { return live.querySelector('[data-plot="' + plot + '"] .ex-' + name); }
  function put(plot, name, path) { piece(plot, name).setAttribute("d", path); }

  function point(plot, u, v) {
    const circle = piece(plot, "point");
    circle.setAttribute("cx", X(u));
    circle.setAttribute("cy", Y(v));
  }

  function diamond(u, v) { return "M" + X(u) + " " + (Y(v) - 8) + "l8 8l-8 8l-8-8Z"; }
  function square(u, v) { return "M" + (X(u) - 4) + " " + (Y(v) - 4) + "h8v8h-8Z"; }
  function describe(plot, text) { live.querySelector('[data-plot="' + plot + '"]').setAttribute("aria-label", text); }

  function drawRoc(r, f) {
    const fpr = (i) => r.fp[i] / r.negatives;
    const tpr = (i) => r.tp[i] / r.positives;
    put("roc", "curve", line(r.t.map((_, i) => [fpr(i), tpr(i)])));
    put("roc", "all", line([[0, 0], [1, 1]]));
    const [u, v] = [1 - f.specificity[0], f.recall[0]];
    put("roc", "bars", line([[u, f.recall[1]], [u, f.recall[2]]]) + line([[1 - f.specificity[2], v], [1 - f.specificity[1], v]]));
    put("roc", "diamond", r.frozen === null ? "" : diamond(fpr(r.frozen), tpr(r.frozen)));
    put("roc", "square", r.default_is_half && r.half !== r.frozen ? square(fpr(r.half), tpr(r.half)) : "");
    point("roc", u, v);
    describe("roc", "ROC curve: at this threshold " + share(v) + " are found and " + share(u) + " of those without alarm.");
  }

  function drawPpv(r, f) {
    const { se, sp } = rates(r, state.step);
    const grid = span(60).map((u) => [u, Math.pow(10, 5 * u - 5)]).filter((g) => g[1] < 1);
    const curve = (k) => grid.map((g) => [g[0], predictive([0, 1, 2].map((i) => ppv(se[i], sp[i], g[1])))[k]])
      .filter((p) => p[1] !== null);
    put("ppv", "curve", line(curve(0)));
    put("ppv", "band", curve(0).length ? band(curve(1), curve(2)) : "");
    put("ppv", "diamond", "");
    point("ppv", decades(state.prevalence), f.ppv[0] === null ? 0 : f.ppv[0]);
    piece("ppv", "point").style.visibility = f.ppv[0] === null ? "hidden" : "";
    put("ppv", "bars", f.ppv[0] === null ? "" : line([[decades(state.prevalence), f.ppv[1]], [decades(state.prevalence), f.ppv[2]]]));
    describe("ppv", f.ppv[0] === null ? "No alarm, so none is right or wrong." :
      "Share of alarms that are right over prevalence: " + share(f.ppv[0]) + " at a prevalence of " + rarity(state.prevalence) + ".");
  }

  function drawBenefit(r, f) {
    const { se, sp } = rates(r, state.step);
    const pi = state.prevalence;
    const [bottom, top] = [-250 * pi, 1000 * pi]; // finding everybody without a false alarm is the top
    const scaled = (v) => (v - bottom) / (top - bottom);
    const grid = span(60).map((u) => [u, Math.pow(10, 3 * u)]);
    const curve = (k) => grid.map((g) => [g[0], scaled(benefits(se, sp, pi, g[1])[k])]);
    const all = grid.map((g) => [g[0], scaled(1000 * (pi - (1 - pi) / g[1]))]).filter((p) => p[1] >= 0);
    put("benefit", "curve", line(curve(0).filter((p) => p[1] >= 0)));
    put("benefit", "band", band(curve(1), curve(2)));
    put("benefit", "all", line(all));
    put("benefit", "none", line([[0, scaled(0)], [1, scaled(0)]]));
    const u = Math.log10(state.cost) / 3;
    point("benefit", u, scaled(f.net_benefit[0]));
    put("benefit", "bars", line([[u, scaled(f.net_benefit[1])], [u, scaled(f.net_benefit[2])]]));
    const ticks = piece("benefit", "ticks");
    ticks.innerHTML = [0, top / 2, top].map((v) => {
      const y = Y(scaled(v));
      return '<path d="M36 ' + y + 'H232"/><text x="32" y="' + (y + 4) + '" text-anchor="end">' + tick(v, top) + "</text>";
    }).join("");
    describe("benefit", "Net benefit over the cost of a miss: the model " + count(f.net_benefit[0]) + ", alarming for all " +
      count(1000 * (pi - (1 - pi) / state.cost)) + ", alarming for none 0, in cases found per 1,000, false alarms paid for.");
  }

  function tick(v, top) { return v === 0 ? "0" : top >= 20 ? grouped(v) : String(Number(v.toPrecision(2))); }

  // ---- the page ---------------------------------------------------------------------------------------------------

  function show() {
    const r = record();
    const name = data.classes[state.class].label;
    get("why").hidden = !r.why;
    get("body").hidden = Boolean(r.why);
    if (r.why) {
      get("why").textContent = "Not estimable for " + name + ", because " + r.why + ".";
      speak(get("why").textContent);
      return;
    }
    const f = figures(r, state.step, state.prevalence, state.cost);
    for (const cell of live.querySelectorAll("[data-figure]")) {
      const [value, low, high] = f[cell.dataset.figure];
      cell.querySelector("b").textContent = value === null ? "not estimable" : written(cell.dataset.figure, value);
      cell.querySelector("span").textContent = value === null ? undefinedFor(cell.dataset.figure, low) : interval(cell.dataset.figure, low, high);
      Object.assign(cell.dataset, { value: value, low: low, high: high });
    }
    const t = threshold(r.t[state.step]);
    say("threshold", t + (state.step === r.frozen ? ", the " + data.mark_name : ""), t);
    say("prevalence", rarity(state.prevalence) + origin(state.prevalence, r.prevalence, r.prevalence_stated ? ", as stated" : ", in these data"));
    say("cost", alarmsWorth(state.cost) + origin(state.cost, r.cost, r.cost_stated ? ", as stated" : ", nobody said"));
    get("told").textContent = told(r, name);
    speak(told(r, name) + (mark(r) ? " " + mark(r) : ""));
    get("watermark").hidden = !mark(r);
    if (get("watermark").textContent !== mark(r)) get("watermark").textContent = mark(r);
    get("plots").classList.toggle("exploratory", Boolean(mark(r)));
    get("reset").textContent = "Back to the " + (r.frozen === null ? "start" : data.mark_name);
    get("reset").disabled = state.step === r.start && state.prevalence === r.prevalence && state.cost === r.cost;
    hint(r);
    drawRoc(r, f);
    drawPpv(r, f);
    drawBenefit(r, f);
  }

  function origin(now, start, words) { return now === start ? words : ""; }

  function say(slider, text, short) {
    get(slider + "-said").textContent = text;
    get(slider).setAttribute("aria-valuetext", short || text);
  }

  // What was chosen elsewhere may be read on these patients; what is chosen here may not.
  function mark(r) {
    if (data.part === "val" || (r.frozen !== null && state.step === r.frozen)) return "";
    return r.frozen === null ? data.watermark_unfrozen : data.watermark;
  }

  function told(r, name) {
    return "Found: " + grouped(r.tp[state.step]) + " of " + grouped(r.positives) + " " + data.units + " with " + name +
      " (" + grouped(r.positive_patients) + " " + data.who + "). False alarms: " + grouped(r.fp[state.step]) + " of " +
      grouped(r.negatives) + " without (" + grouped(r.negative_patients) + " " + data.who + ").";
  }

  function speak(text) {
    window.clearTimeout(speaking);
    speaking = window.setTimeout(() => { get("live").textContent = text; }, 400);
  }

  function hint(r) {
    if (data.part !== "val") return; // choosing a threshold on the patients that judge it is what this page warns of
    const best = cheapest(r, state.prevalence, state.cost);
    get("cheapest").hidden = best === state.step;
    get("hint").textContent = best === state.step ? "This is the cheapest threshold on the validation part." :
      "Cheapest on the validation part: threshold " + threshold(r.t[best]) + ".";
  }

  function reset() {
    const r = record();
    if (!r.why) {
      Object.assign(state, { step: r.start, prevalence: r.prevalence, cost: r.cost });
      get("threshold").max = r.t.length - 1;
      get("threshold").value = r.t.length - 1 - state.step;
      get("prevalence").value = Math.log10(state.prevalence);
      get("cost").value = Math.log10(state.cost);
    }
    show();
  }

  function options(select, names, chosen) {
    for (const [i, name] of names.entries()) select.add(new Option(name, i));
    select.addEventListener("change", () => { state[chosen] = Number(select.value); reset(); });
  }

  function moved(id, change) {
    get(id).addEventListener("input", () => {
      if (record().why) return; // nothing to move for a class that is not estimable
      change(Number(get(id).value));
      show();
    });
  }

  options(get("class"), data.classes.map((one) => one.label), "class");
  if (get("arm")) options(get("arm"), data.arms.map((one) => one.name), "arm");
  moved("threshold", (v) => { state.step = record().t.length - 1 - v; });
  moved("prevalence", (v) => { state.prevalence = Number(Math.pow(10, v).toPrecision(2)); });
  moved("cost", (v) => { state.cost = Number(Math.pow(10, v).toPrecision(2)); });
  get("reset").addEventListener("click", reset);
  get("cheapest").addEventListener("click", () => {
    state.step = cheapest(record(), state.prevalence, state.cost);
    get("threshold").value = record().t.length - 1 - state.step;
    show();
  });
  live.hidden = false;
  reset();
})();
