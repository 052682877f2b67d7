// The page of a server: sends volumes, follows the jobs, shows slices of a result.
"use strict";

const at = (id) => document.getElementById(id);
const STAGES = {
  read: "reading", locate: "finding the region", inference: "segmenting", write: "writing",
};
const LONGEST_S = 60; // between two tries to reach the server
const NAMES = new Map(); // the files of each job that this page sent; the server is never told
let models = [];
let shown = null; // the job whose result is shown

function element(kind, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(kind), attributes);
  made.textContent = text;
  return made;
}

async function ask(method, path, content) {
  const options = { method };
  if (content !== undefined) {
    options.body = JSON.stringify(content);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await fetch(path, options);
  const answer = await response.text();
  if (!response.ok) throw refusal(response.status, answer);
  return JSON.parse(answer);
}

function refusal(status, text) {
  try {
    const answer = JSON.parse(text);
    return new Error(`${answer.message} ${answer.help}`.trim());
  } catch { // not a sentence of this server, but of a proxy before it
    return new Error(`The server answered ${status}.`);
  }
}

function upload(path, file, tell) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much it has sent
    request.open("PUT", path);
    request.upload.onprogress = (event) => tell(event.loaded);
    request.onerror = () => reject(new Error("The file could not be sent; try again."));
    request.onload = () => {
      if (request.status < 300) return resolve();
      reject(refusal(request.status, request.responseText));
    };
    request.send(file);
  });
}

function showModel() {
  const model = models.find((one) => one.name === at("model").value);
  if (!model) return;
  const labels = model.labels.map((label) => label.name).join(", ");
  at("about").textContent = `${model.title}: ${labels}. ${model.licence}`;
  at("channels").replaceChildren(...model.channels.map((name, number) => {
    const label = element("label", `${name} (.nii.gz or .nii) `, { className: "channel" });
    label.append(element("input", "", {
      type: "file", accept: ".nii,.gz", required: true, name: `channel-${number}`,
    }));
    return label;
  }));
}

async function send(event) {
  event.preventDefault();
  const inputs = [...at("channels").querySelectorAll("input")];
  const files = inputs.map((input) => input.files[0]);
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let job = null;
  at("refused").hidden = true;
  at("go").disabled = true;
  at("sent").hidden = false;
  try {
    job = await ask("POST", "jobs", {
      model: at("model").value, tta: at("tta").checked, bytes: files.map((file) => file.size),
    });
    NAMES.set(job.id, files.map((file) => file.name));
    let before = 0;
    for (const [number, file] of files.entries()) {
      await upload(`jobs/${job.id}/channels/${number}`, file, (sent) => {
        at("sent").value = (before + sent) / total;
      });
      before += file.size;
    }
    for (const input of inputs) input.value = ""; // the next file is for the same model
  } catch (error) {
    at("refused").textContent = error.message;
    at("refused").hidden = false;
    if (job) await remove(job.id);
  }
  at("go").disabled = false;
  at("sent").hidden = true;
  at("sent").value = 0;
}

async function remove(id) {
  if (shown === id) {
    shown = null;
    at("result").hidden = true;
  }
  try {
    await ask("DELETE", `jobs/${id}`);
  } catch { /* it has gone already */ }
}

function name(job) {
  return NAMES.get(job.id)?.[0];
}

function withOwnNames(job, text) {
  const names = NAMES.get(job.id) ?? [];
  return text
    .replace(/\bcase_(\d{4})\.nii(\.gz)?/g, (found, channel) => names[Number(channel)] ?? found)
    .replace(/(?<=\bin )case(?=\.$)/, () => names[0] ?? "the volume");
}

function state(job) {
  if (job.state === "uploading") return "waiting for its file";
  if (job.state === "queued") return `waiting, number ${job.position}`;
  if (job.state === "failed") return `${withOwnNames(job, job.error.message)} ${job.error.help}`;
  if (job.state === "running") return STAGES[job.progress?.stage] ?? "starting";
  const until = new Date(job.deleted_at * 1000).toLocaleString();
  return `done${job.result.doubtful ? ", doubtful" : ""}; kept until ${until}`;
}

function row(job) {
  const item = element("li");
  item.dataset.id = job.id;
  item.dataset.state = job.state;
  const what = element("div", "", { className: "what" });
  const sent = new Date(job.created * 1000).toLocaleString();
  what.append(
    element("strong", name(job) ?? `${job.model}, sent ${sent}`),
    element("span", state(job), { className: job.state === "failed" ? "error" : "quiet" }),
  );
  const tools = element("div", "", { className: "do" });
  if (job.state === "running") {
    const { done = 0, total = 1 } = job.progress ?? {};
    tools.append(element("progress", "", { max: Math.max(total, 1), value: done }));
  }
  if (job.state === "done") {
    const look = element("button", "Look", { type: "button" });
    look.onclick = () => show(job);
    tools.append(look);
    for (const [file, text] of [["segmentation", "Labels"], ["volumes", "Volumes"], ["manifest", "Record"]]) {
      tools.append(element("a", text, { href: `jobs/${job.id}/${file}`, download: "" }));
    }
  }
  const drop = element("button", job.state === "done" || job.state === "failed" ? "Delete" : "Cancel", { type: "button" });
  drop.onclick = () => remove(job.id);
  tools.append(drop);
  item.append(what, tools);
  return item;
}

function showSlice() {
  const number = Number(at("slice").value);
  at("picture").src = `jobs/${shown}/slices/${number}`;
  at("picture").alt = `Axial slice ${number + 1} of the volume with its labels`;
  at("place").textContent = `${number + 1} of ${Number(at("slice").max) + 1}`;
}

function show(job) {
  shown = job.id;
  at("result").hidden = false;
  at("result-title").textContent = `Result: ${name(job) ?? job.model}`;
  at("volumes").replaceChildren(...job.result.labels.map((label) => {
    const line = element("tr");
    const structure = element("td");
    const swatch = element("span", "", { className: "swatch" });
    swatch.style.background = `rgb(${label.color.join(",")})`;
    structure.append(swatch, label.name + (label.doubtful ? " (doubtful)" : ""));
    line.append(structure, element("td", label.volume_ml.toFixed(2), { className: "number" }));
    return line;
  }));
  const doubtful = (warning) => warning.code === "doubtful-result";
  const warnings = [...job.warnings].sort((a, b) => doubtful(b) - doubtful(a));
  at("warnings").replaceChildren(...warnings.map((warning) =>
    element("p", withOwnNames(job, warning.message), { className: "warning" })));
  document.querySelector("figure").hidden = job.slices === 0;
  if (job.slices > 0) {
    at("slice").max = job.slices - 1;
    at("slice").value = Math.floor(job.slices / 2);
    showSlice();
  }
  at("result").scrollIntoView({ behavior: "smooth" });
}

function told(overview) {
  at("who").textContent = overview.user;
  const { waiting } = overview;
  at("waiting").textContent = waiting === 0 ? "" : `${waiting} waiting on this server.`;
  at("jobs").replaceChildren(...overview.jobs.map(row));
  at("none").hidden = overview.jobs.length > 0;
}

function again(call, pause) {
  at("lost").textContent = `No connection to the server; trying again in ${pause} s.`;
  at("lost").hidden = false;
  setTimeout(call, pause * 1000, Math.min(2 * pause, LONGEST_S));
}

function listen(pause = 1) {
  const source = new EventSource("events");
  let heard = false;
  source.onmessage = (event) => {
    heard = true;
    at("lost").hidden = true;
    told(JSON.parse(event.data));
  };
  source.onerror = () => {
    source.close(); // a browser itself gives up at the first answer that is no stream
    if (heard) setTimeout(listen, 1000); // a server ends its streams now and then
    else again(listen, pause);
  };
}

async function start(pause = 1) {
  let answer;
  try {
    answer = await ask("GET", "models");
  } catch {
    return again(start, pause);
  }
  models = answer.models;
  at("kept").textContent = Math.round(answer.limits.keep_s / 360) / 10;
  at("model").replaceChildren(...models.map((model) => element("option", model.name, { value: model.name })));
  at("model").onchange = showModel;
  at("slice").oninput = showSlice;
  at("send").onsubmit = send;
  showModel();
  listen();
}

start();
