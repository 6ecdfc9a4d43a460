// The page to try each model: no framework, no build step, nothing from elsewhere.
const KEY = "slipway-token";
const $ = (id) => document.getElementById(id);
let models = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// The token comes in the address's fragment, which no server sees, and leaves the address at once.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  $("token").value = sessionStorage.getItem(KEY) ?? "";
}

const authorized = (headers = {}) => ({ ...headers, Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` });

async function failure(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the service answered ${response.status}`;
  }
}

async function listModels() {
  $("notice").textContent = "";
  let response;
  try {
    response = await fetch("/v1/models", { headers: authorized() });
  } catch {
    $("notice").textContent = "The service does not answer.";
    return;
  }
  if (!response.ok) {
    $("notice").textContent = response.status === 401 ? "Give a token; slipway serve prints the address with it." : await failure(response);
    return;
  }
  models = (await response.json()).data;
  $("models").replaceChildren(...models.map((model) =>
    element("button", { type: "button", onclick: () => show(model), "data-model": model.id },
      model.id, element("small", {}, `${model.domain}, ${model.task}`))));
  if (models.length) show(models[0], false);
  else $("panel").replaceChildren("No model is served.");
}

// What each task is asked with: a form, and the request that it makes.
const TEXTS = {
  "text generation": "Once upon a time",
  "text classification": "Write a sentence.",
  "text masked-lm": "A [MASK] in a sentence.",
  "speech synthesis": "Hello, this is a test.",
};

function field(model) {
  const kind = `${model.domain} ${model.task}`;
  if (model.domain === "vision" || kind === "speech recognition") return fileField(model.domain === "vision" ? "image" : "audio");
  if (model.domain === "recommendation") return recommendationField(model.task);
  const area = element("textarea", { id: "input", value: TEXTS[kind] ?? "" });
  const made = [element("label", { htmlFor: "input" }, "Text"), area];
  return { made, read: () => ({ inputs: area.value }), shown: () => area.value };
}

function recommendationField(task) {
  const example = task === "rating" ? '{"user": "1", "item": "1"}' : '{"history": ["1", "2"]}';
  const area = element("textarea", { id: "input", value: example });
  const made = [element("label", { htmlFor: "input" }, 'A user or a history, such as {"user": 7}'), area];
  return { made, read: () => ({ inputs: JSON.parse(area.value) }), shown: () => area.value };
}

function fileField(kind) {
  let chosen = null;
  const picker = element("input", { type: "file", id: "input", accept: `${kind}/*` });
  const preview = element("div");
  const drop = element("div", { className: "drop" },
    element("label", { htmlFor: "input" }, kind === "image" ? "Drop a picture here, or choose one" : "Drop a sound here, or choose one"), picker, preview);
  const take = (file) => {
    chosen = file ?? null;
    preview.replaceChildren();
    if (!chosen) return;
    const url = URL.createObjectURL(chosen);
    preview.append(kind === "image" ? element("img", { src: url, alt: chosen.name }) : element("audio", { src: url, controls: true }));
  };
  picker.addEventListener("change", () => take(picker.files[0]));
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  return { made: [drop], file: () => chosen };
}

function show(model, focus = true) {
  for (const button of $("models").children) button.setAttribute("aria-current", String(button.dataset.model === model.id));
  const input = field(model);
  const send = element("button", { type: "submit" }, "Ask");
  const facts = element("span", { className: "facts", role: "status" });
  const answer = element("div", { className: "answer", "aria-live": "polite" });
  const curl = element("pre", { tabIndex: 0 });
  const form = element("form", {}, ...input.made, element("div", { className: "row" }, send, facts));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    answer.replaceChildren();
    facts.textContent = "…";
    try {
      await ask(model, input, answer, facts, curl);
    } catch (error) {
      facts.textContent = "";
      answer.replaceChildren(element("p", { className: "error" }, error.message));
    }
    send.disabled = false;
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  $("panel").replaceChildren(element("h2", {}, model.id), form, answer, element("details", {}, element("summary", {}, "The request as curl"), curl));
  curl.textContent = "Ask first.";
  if (focus) $("panel").focus();
}

async function ask(model, input, answer, facts, curl) {
  const started = performance.now();
  const path = `/models/${model.id}`;
  if (model.task === "generation") return write(model, input.shown(), answer, facts, curl, started);
  let body, headers;
  if (input.file) {
    body = input.file();
    if (!body) throw new Error("Choose a file first.");
    headers = { "Content-Type": body.type || "application/octet-stream" };
    curl.textContent = command(path, `--data-binary @'${body.name}' -H 'Content-Type: ${headers["Content-Type"]}'`);
  } else {
    body = JSON.stringify(input.read());
    headers = { "Content-Type": "application/json" };
    curl.textContent = command(path, `-d '${body.replaceAll("'", "'\\''")}'`);
  }
  const response = await fetch(path, { method: "POST", headers: authorized(headers), body });
  if (!response.ok) throw new Error(await failure(response));
  if (response.headers.get("content-type").startsWith("audio/")) {
    answer.replaceChildren(element("audio", { src: URL.createObjectURL(await response.blob()), controls: true, autoplay: true }));
  } else {
    answer.replaceChildren(draw(await response.json()));
  }
  tell(facts, started, response.headers.get("x-model-version"));
}

async function write(model, prompt, answer, facts, curl, started) {
  const body = JSON.stringify({ model: model.id, prompt, max_tokens: 200, temperature: 0.8, stream: true });
  curl.textContent = command("/v1/completions", `-N -d '${body.replaceAll("'", "'\\''")}'`);
  const response = await fetch("/v1/completions", { method: "POST", headers: authorized({ "Content-Type": "application/json" }), body });
  if (!response.ok) throw new Error(await failure(response));
  const text = element("p", {}, prompt);
  answer.replaceChildren(text);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const document = JSON.parse(data);
      if (document.error) throw new Error(document.error.message);
      text.append(document.choices[0]?.text ?? "");
    }
  }
  tell(facts, started, response.headers.get("x-model-version"));
}

function tell(facts, started, version) {
  facts.textContent = `${Math.round(performance.now() - started)} ms, ${version}`;
}

function command(path, rest) {
  return `curl ${location.origin}${path} -H "Authorization: Bearer $TOKEN" ${rest}`;
}

function draw(found) {
  if (Array.isArray(found) && found.length === 1 && Array.isArray(found[0])) return draw(found[0]);
  if (Array.isArray(found) && found.every((each) => each && typeof each === "object" && "score" in each)) return bars(found);
  if (found && typeof found.text === "string") return element("p", {}, found.text || "(silence)");
  return element("pre", {}, JSON.stringify(found, null, 1));
}

function bars(found) {
  const most = Math.max(...found.map((each) => Math.abs(each.score)), 1e-9);
  return element("ol", { className: "bars" }, ...found.slice(0, 20).map((each) => {
    const fill = element("span", { className: "fill" });
    fill.style.width = `${100 * Math.max(0, each.score) / most}%`;
    const name = each.label ?? each.sequence ?? each.title ?? String(each.item);
    return element("li", {}, fill, element("span", {}, name), element("span", {}, each.score.toFixed(3)));
  }));
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("token").value.trim());
  listModels();
});
addEventListener("hashchange", () => { takeToken(); listModels(); });
takeToken();
listModels();
