// The API's description as a page, drawn from /openapi.json.
const text = (name, content, className = "") => {
  const made = document.createElement(name);
  made.textContent = content;
  made.className = className;
  return made;
};

function operation(path, method, found) {
  const box = document.createElement("details");
  const open = found.security?.length === 0 ? " (open)" : "";
  box.append(text("summary", `${method.toUpperCase()} ${path}: ${found.summary}${open}`));
  for (const [media, body] of Object.entries(found.requestBody?.content ?? {})) {
    box.append(text("p", `takes ${media}`), text("pre", JSON.stringify(body.schema, null, 1)));
  }
  for (const [media, body] of Object.entries(found.responses["200"].content ?? {})) {
    box.append(text("p", `answers ${media}`), text("pre", JSON.stringify(body.schema, null, 1)));
  }
  const table = document.createElement("table");
  for (const [status, refusal] of Object.entries(found.responses)) {
    const row = document.createElement("tr");
    row.append(text("th", status), text("td", refusal.description));
    table.append(row);
  }
  box.append(table);
  return box;
}

const description = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, found] of Object.entries(methods)) {
    document.getElementById("operations").append(operation(path, method, found));
  }
}
