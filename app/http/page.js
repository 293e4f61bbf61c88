// The page: a chat over /v1, and the swarm as /swarm and /prompt report it. It requests nothing else.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const POLL_MS = 1000, LOOK_MS = 150, TIMEOUT_MS = 5000, DOT_MS = 700, MOST_DOTS = 12, MOST_DRAWN = 12;
const KINDS = ["own", "peers", "computed"];
const MIDDLE = [200, 125];

let messages = [];        // the conversation, as it is sent
let asking = null;        // the AbortController of the running answer
let swarm = null;         // the latest reply of /swarm
let before = null;        // bytes fetched and when, at the previous poll
let map = null;           // the latest reply of /prompt
let chosen = false;       // whether a person has chosen between chat and completion
const places = new Map(); // where peers are drawn, by node
const came = new Map();   // blocks of the current prompt that have arrived from peers, by node

function headers() {
  const key = $("key").value.trim();
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function html(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function words(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const seconds = (ms) => `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
const rate = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB/s` : `${(bytes / 1e6).toFixed(1)} MB/s`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

// --- chat

// Scrolls to the newest text, unless the reader has scrolled back.
function follow(change) {
  const turns = $("turns"), newest = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 60;
  change();
  if (newest) turns.scrollTop = turns.scrollHeight;
}

function turn(kind, text) {
  const made = html("div", `turn ${kind}`, text);
  if ($("empty")) $("empty").remove();
  $("turns").append(made);
  $("turns").scrollTop = $("turns").scrollHeight;
  return made;
}

function request(text) {
  const how = {
    stream: true, stream_options: { include_usage: true },
    max_tokens: Number($("max").value) || 128, temperature: Number($("temperature").value) || 0,
  };
  return $("complete").checked ? ["v1/completions", { ...how, prompt: text }] : ["v1/chat/completions", { ...how, messages }];
}

async function ask(text) {
  const kept = messages.length;
  messages.push({ role: "user", content: text });
  turn("user", text);
  const shown = turn("answer going", ""), said = document.createTextNode("");
  shown.append(said);
  asking = new AbortController();
  working(true);
  const began = performance.now();
  let usage = null, wrong = null;
  const [path, body] = request(text);
  try {
    const response = await fetch(path, { method: "POST", headers: headers(), signal: asking.signal, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await reason(response));
    for await (const event of events(response.body)) {
      const { choices, usage: told, error } = event;
      if (error) throw new Error(error.message);
      if (told) usage = told;
      const choice = choices && choices[0], more = choice && (choice.text || choice.delta && choice.delta.content);
      if (more) follow(() => { said.data += more; });
    }
  } catch (error) {
    wrong = error;
  }
  asking = null;
  working(false);
  shown.classList.remove("going");
  const stopped = wrong && wrong.name === "AbortError";
  // Completions, stopped answers and failed answers are not part of the conversation.
  if (wrong || $("complete").checked) messages.length = Math.min(kept, messages.length);
  else messages.push({ role: "assistant", content: said.data });
  if (wrong && !stopped) shown.classList.add("wrong");
  const note = stopped ? `Stopped after ${seconds(performance.now() - began)}. The conversation goes on without this turn.`
    : wrong ? wrong.message : figureWords(usage);
  follow(() => figures(shown, note, usage));
  if (usage && !stopped) finished(usage.potluck);
  $("text").focus();
}

async function reason(response) {
  if (response.status === 401) {
    $("settings").open = true;
    $("key").focus();
  }
  try { return (await response.json()).error.message; } catch { return `The node answered ${response.status}.`; }
}

function sources(figures) {
  return { own: figures.own, peers: figures.peers.reduce((sum, [, tokens]) => sum + tokens, 0), computed: figures.computed };
}

function figures(shown, note, usage) {
  const made = html("div", "figures");
  if (usage && usage.prompt_tokens) {
    const share = html("span", "share"), from = sources(usage.potluck);
    share.setAttribute("aria-hidden", "true");
    for (const kind of KINDS) {
      const part = html("i", kind);
      part.style.width = `${100 * from[kind] / usage.prompt_tokens}%`;
      share.append(part);
    }
    made.append(share);
  }
  made.append(note);
  shown.append(made);
}

function figureWords(usage) {
  if (!usage) return "";
  const f = usage.potluck, { own, peers } = sources(f), from = [];
  if (own) from.push(`${own.toLocaleString("en")} from its slab`);
  if (peers) from.push(`${peers.toLocaleString("en")} from peers`);
  from.push(`${f.computed.toLocaleString("en")} computed`);
  const each = f.generated > 1 && f.ttlt_ms > f.ttft_ms ? ` at ${((f.generated - 1) * 1000 / (f.ttlt_ms - f.ttft_ms)).toFixed(1)} a second` : "";
  const cut = { length: " Cut at the longest answer.", context: " Cut: the context is full.", slab: " Cut: the slab is full." }[f.finish] || "";
  return `${count(usage.prompt_tokens, "prompt token")}: ${from.join(", ")}. First token after ${seconds(f.ttft_ms)}; ` +
    `${count(f.generated, "token")} in ${seconds(f.ttlt_ms)}${each}.${cut}`;
}

// Server-sent events: `data:` lines are JSON; comments keep the connection alive.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part === "data: [DONE]") return;
      if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  }
}

function working(is) {
  $("send").disabled = is;
  $("stop").disabled = !is;
  $("turns").setAttribute("aria-busy", is);
  $("state").textContent = is ? "Answering …" : "";
}

// --- the prompt, block by block

const KIND = { "#": "own", "=": "computed", "-": "doing", ".": "open" };
const kindOf = (letter) => KIND[letter] || (letter < "a" ? "peers" : "coming");

// Runs of blocks of one kind.
function runs(blocks) {
  const made = [];
  for (const [at, letter] of [...blocks].entries()) {
    const kind = kindOf(letter), last = made[made.length - 1];
    if (last && last.kind === kind) last.blocks += 1; else made.push({ kind, at, blocks: 1 });
  }
  return made;
}

function drawPrompt(parts, total) {
  $("prompt").setAttribute("viewBox", `0 0 ${Math.max(total, 1)} 10`);
  // A small gap after each block lets people count the blocks, unless there are too many.
  const gap = total <= 120 ? Math.min(0.12, total / 250) : 0, made = [];
  for (const { kind, at, blocks } of parts) {
    if (!gap) { made.push(element("rect", { class: kind, x: at, y: 0, width: blocks, height: 10 })); continue; }
    for (let block = 0; block < blocks; block += 1) {
      made.push(element("rect", { class: kind, x: at + block, y: 0, width: 1 - gap, height: 10 }));
    }
  }
  $("prompt").replaceChildren(...made);
}

function showMap(next) {
  if (!map || map.number !== next.number) came.clear();
  map = next;
  const parts = runs(map.blocks), lacking = 16 * map.blocks.length - map.prompt_tokens;
  // The last token of a known prompt is computed again, because the answer begins with its logits.
  const last = parts.length ? parts[parts.length - 1].kind : "", again = last === "own" || last === "peers";
  const tokens = (kind) => parts.filter((part) => part.kind === kind)
    .reduce((sum, part) => sum + 16 * part.blocks - (part.at + part.blocks === map.blocks.length ? lacking : 0),
      !again ? 0 : kind === "computed" ? 1 : kind === last ? -1 : 0).toLocaleString("en");
  drawPrompt(parts, map.blocks.length);
  const prefill = map.ttft_ms === null, coming = parts.some((part) => part.kind === "coming");
  $("from-head").classList.toggle("on", prefill && parts.some((part) => part.kind === "doing"));
  $("from-tail").classList.toggle("on", prefill && coming);
  const state = map.over ? "answered" : prefill ? `after ${seconds(map.elapsed_ms)}` : `answering, ${count(map.generated, "token")} so far`;
  words("prompt-words", `${count(map.prompt_tokens, "token")}, ${state}: ${tokens("own")} from its slab, ` +
    `${tokens("peers")} from peers${coming ? ` and ${tokens("coming")} on their way` : ""}, ${tokens("computed")} computed.${meeting(parts)}`);
  map.peers.forEach((peer, at) => {
    const letter = String.fromCharCode(65 + Math.min(at, 25)), blocks = map.blocks.split(letter).length - 1;
    const more = blocks - (came.get(peer.node) || 0);
    if (more > 0) {
      came.set(peer.node, blocks);
      dots(peer.node, Math.min(more, MOST_DOTS));
    }
  });
  drawHolds();
}

// Where computing from the head and fetching from the tail met.
function meeting(parts) {
  const fetched = parts.findIndex((part) => part.kind === "peers");
  if (map.ttft_ms === null || fetched < 1 || parts[fetched - 1].kind !== "computed") return "";
  return ` The two met at token ${(16 * parts[fetched].at).toLocaleString("en")}.`;
}

// Ends an answer of this page: its figures are exact, while the last look at the prompt may have been too early.
function finished(figures) {
  const from = sources(figures), whole = figures.prompt_tokens;
  $("from-head").classList.remove("on");
  $("from-tail").classList.remove("on");
  if (!map || map.prompt_tokens !== whole || /[.a-z-]/.test(map.blocks)) {
    const parts = [["own", 0, from.own], ["computed", from.own, from.computed], ["peers", whole - from.peers, from.peers]];
    drawRuns(parts.filter(([, , tokens]) => tokens > 0), whole);
  }
  words("prompt-words", `${count(whole, "token")}, answered: ${from.own.toLocaleString("en")} from its slab, ` +
    `${from.peers.toLocaleString("en")} from peers, ${from.computed.toLocaleString("en")} computed.${map ? meeting(runs(map.blocks)) : ""}`);
}

function drawRuns(parts, whole) {
  $("prompt").setAttribute("viewBox", `0 0 ${Math.max(whole, 1)} 10`);
  $("prompt").replaceChildren(...parts.map(([kind, x, width]) => element("rect", { class: kind, x, y: 0, width, height: 10 })));
}

// --- the swarm

function label(node, name) { return name ? name.slice(0, 18) : node.slice(0, 8); }

// Blocks on their way from a peer to this node.
function dots(node, many) {
  const from = places.get(node);
  if (!from || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (let at = 0; at < many; at += 1) {
    const dot = element("circle", { class: "dot", cx: 0, cy: 0, r: 4, opacity: 0 });
    $("dots").append(dot);
    const steps = [from, MIDDLE].map(([x, y]) => ({ transform: `translate(${x}px, ${y}px)`, opacity: 1 }));
    dot.animate(steps, { duration: DOT_MS, delay: at * 60, easing: "ease-in" }).finished.then(() => dot.remove(), () => dot.remove());
  }
}

function place(peers) {
  places.clear();
  peers.forEach((peer, at) => {
    const angle = 2 * Math.PI * at / peers.length - (peers.length < 3 ? Math.PI : Math.PI / 2);
    places.set(peer.node, [MIDDLE[0] + 145 * Math.cos(angle), MIDDLE[1] - 8 + 82 * Math.sin(angle)]);
  });
  const heights = [...places.values()].map(([, y]) => y), top = Math.min(85, ...heights.map((y) => y - 28));
  $("picture").setAttribute("viewBox", `0 ${top} 400 ${Math.max(185, ...heights.map((y) => y + 46)) - top}`);
}

const RING = 2 * Math.PI * 20;

function drawSwarm() {
  const shown = swarm.peers.slice(0, MOST_DRAWN), circles = [], links = [];
  place(shown);
  for (const peer of shown) {
    const [x, y] = places.get(peer.node), gone = peer.distrusted || !peer.shares ? " gone" : "";
    links.push(element("line", { class: "link", "data-node": peer.node, x1: MIDDLE[0], y1: MIDDLE[1], x2: x, y2: y }));
    circles.push(element("circle", { class: `node${gone}`, cx: x, cy: y, r: 18 }),
      element("circle", { class: "ring", "data-node": peer.node, cx: x, cy: y, r: 20, "stroke-dasharray": `0 ${RING}` }),
      element("text", { class: "small", "data-node": peer.node, x, y: y + 4 }),
      element("text", { x, y: y + 36 }, label(peer.node, peer.name)));
  }
  const slab = swarm.cache.planes[0], full = slab.slots ? slab.held / slab.slots : 0, [x, y] = MIDDLE;
  circles.push(element("circle", { class: "node", cx: x, cy: y, r: 30, stroke: "none" }),
    element("rect", { class: "own", x: x - 28, y: y + 28 - 56 * full, width: 56, height: 56 * full, "clip-path": "url(#bowl)" }),
    element("circle", { class: "node self", cx: x, cy: y, r: 30 }),
    element("text", { x, y: y + 4 }, `${Math.round(100 * full)} %`),
    element("text", { x, y: y + 48 }, label(swarm.node, swarm.name)));
  $("links").replaceChildren(...links);
  $("circles").replaceChildren(...circles);
  const peers = swarm.peers.length;
  words("picture-words", `This node's slab is ${Math.round(100 * full)} % full. ` + (peers === 0 ? "No peer has been heard." :
    `${count(peers, "peer")}${peers > shown.length ? `, ${shown.length} of them drawn` : ""}: a ring shows how much of the prompt a peer holds.`));
  drawHolds();
}

// How much of the prompt each peer holds, and which peers are sending.
function drawHolds() {
  if (!swarm) return;
  const holders = new Map((map ? map.peers : []).map((peer, at) => [peer.node, { ...peer, coming: map.blocks.includes(String.fromCharCode(97 + Math.min(at, 25))) }]));
  const part = (node) => holders.has(node) && map.prompt_tokens ? holders.get(node).holds / map.prompt_tokens : 0;
  for (const ring of $("circles").querySelectorAll(".ring")) ring.setAttribute("stroke-dasharray", `${part(ring.dataset.node) * RING} ${RING}`);
  for (const text of $("circles").querySelectorAll("text.small")) {
    const share = part(text.dataset.node);
    text.textContent = share > 0 ? `${Math.round(100 * share)}%` : "";
  }
  for (const link of $("links").children) {
    const holder = holders.get(link.dataset.node);
    link.classList.toggle("busy", Boolean(holder && holder.coming && map.ttft_ms === null));
  }
}

function nodeRow(peer) {
  const row = html("tr"), holder = map && map.peers.find((other) => other.node === peer.node);
  const state = peer.distrusted ? "distrusted" : !peer.shares ? "shares nothing" : peer.current ? "known" : "being repaired";
  const known = (value, say) => value === null ? "not measured" : say(value);
  const held = holder && holder.holds ? `holds ${holder.holds.toLocaleString("en")}, gave ${holder.gave.toLocaleString("en")}` : "nothing";
  const cells = [label(peer.node, peer.name), held, state, known(peer.goodput_bytes_per_s, rate),
    known(peer.round_trip_ms, (ms) => `${ms.toFixed(1)} ms`), `${peer.load_percent} %`];
  cells.forEach((text, at) => {
    const cell = html(at ? "td" : "th", "", text);
    if (!at) cell.scope = "row";
    row.append(cell);
  });
  return row;
}

function drawRates() {
  const now = performance.now(), bytes = swarm.node_stats.bytes_fetched;
  const fetching = before ? Math.max(0, bytes - before.bytes) * 1000 / (now - before.at) : null;
  before = { bytes, at: now };
  const slab = swarm.cache.planes.reduce((sum, plane) => sum + plane.held * plane.slot_bytes, 0);
  const slots = swarm.cache.planes.reduce((sum, plane) => sum + plane.slots * plane.slot_bytes, 0);
  const shown = [
    ["Prefill", swarm.prefill_tokens_per_s === null ? null : `${swarm.prefill_tokens_per_s.toFixed(0)} tokens/s`],
    ["Fetching", fetching === null ? null : rate(fetching)],
    ["Fetched so far", megabytes(bytes)],
    ["Slab", `${megabytes(slab).replace(" MB", "")} of ${megabytes(slots)}`],
    ["Waiting", count(swarm.waiting + swarm.requests_waiting, "prompt")],
    ["Temperature", swarm.celsius === null ? null : `${swarm.celsius.toFixed(0)} °C`],
  ];
  $("rates").replaceChildren(...shown.filter(([, value]) => value !== null).map(([name, value]) => {
    const pair = html("div");
    pair.append(html("dt", "", name), html("dd", "", value));
    return pair;
  }));
}

// The last hour, one bar per minute, for all clients.
function drawHour() {
  const bars = swarm.hour.map(([own, peers, computed]) => ({ own, peers, computed }));
  const highest = Math.max(1, ...bars.map((bar) => bar.own + bar.peers + bar.computed)), wide = 400 / bars.length, made = [];
  bars.forEach((bar, at) => {
    let y = 89;
    for (const kind of KINDS) {
      const high = 85 * bar[kind] / highest;
      if (high > 0) made.push(element("rect", { class: kind, x: at * wide, y: y -= high, width: wide - 1, height: high }));
    }
  });
  made.push(element("rect", { class: "open", x: 0, y: 89, width: 400, height: 1 }));
  $("hour").replaceChildren(...made);
  const sum = (at) => swarm.hour.reduce((total, minute) => total + minute[at], 0);
  const [own, peers, computed, answers] = [0, 1, 2, 3].map(sum), all = own + peers + computed;
  words("hour-words", answers ? `${count(answers, "answer")}. Of ${count(all, "prompt token")}, ${Math.round(100 * (own + peers) / Math.max(all, 1))} % ` +
    `were not computed: ${own.toLocaleString("en")} came from this node's slab and ${peers.toLocaleString("en")} from peers.` : "No answers yet.");
}

function showSwarm(next) {
  swarm = next;
  const base = swarm.chat ? "" : " (a base model: it completes texts)";
  words("who", `${swarm.name || swarm.node.slice(0, 8)} answers with ${swarm.model}${base}`);
  if (!chosen && !swarm.chat) complete(true);
  drawSwarm();
  drawRates();
  drawHour();
  $("nodes").replaceChildren(...swarm.peers.map(nodeRow));
  if (!swarm.peers.length) {
    const row = html("tr"), cell = html("td", "", "No peer has been heard.");
    cell.colSpan = 6;
    row.append(cell);
    $("nodes").append(row);
  }
}

function complete(is) {
  $("complete").checked = is;
  words("text-label", is ? "A text to complete" : "Your prompt");
  if ($("invitation")) words("invitation", is ? "Give a text to complete" : "Ask something");
}

const get = (path) => fetch(path, { headers: headers(), signal: AbortSignal.timeout(TIMEOUT_MS) });

async function poll() {
  if (!document.hidden) {
    try {
      const response = await get("swarm");
      if (response.ok) showSwarm(await response.json()); else words("who", await reason(response));
    } catch {
      words("who", "The node does not answer.");
    }
  }
  setTimeout(poll, POLL_MS);
}

// Polls fast while any client's prompt is being answered.
async function look() {
  if (!document.hidden && (asking || swarm && swarm.busy)) {
    try {
      const response = await get("prompt"), next = response.ok && await response.json();
      if (next) showMap(next); else if (map && !map.over) showMap({ ...map, over: true });
    } catch { /* The slower poll says that the node does not answer. */ }
  }
  setTimeout(look, LOOK_MS);
}

// --- user input

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || asking) return;
  $("text").value = "";
  ask(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && asking) asking.abort();
});
$("stop").addEventListener("click", () => asking && asking.abort());
$("new").addEventListener("click", () => {
  if (asking) asking.abort();
  messages = [];
  $("turns").replaceChildren();
  $("text").focus();
});
$("complete").addEventListener("change", () => {
  chosen = true;
  complete($("complete").checked);
});
$("key").value = sessionStorage.getItem("key") || "";
$("key").addEventListener("change", () => sessionStorage.setItem("key", $("key").value.trim()));
poll();
look();
