// The API's own description, /openapi.json, as a page: no other server is needed.

import { at } from "./service.js";
import { element } from "./text.js";

const EXAMPLES = {
  "/v1/score": { items: [{ instruction: "Add two numbers.", response: "def add(a, b):\n    return a + b\n" }], options: { lam: 0.95 } },
  "/v1/rank": { instruction: "Add two numbers.", responses: ["def add(a, b):\n    return a + b\n", "def add(a, b):\n    return a - b\n"] },
  "/v1/values": { rows: [[{ token_ids: "AQAAAAIAAAADAAAA", response_start: 1 }]] },
};

const description = await (await fetch(at("/openapi.json"))).json();
const schemas = description.components.schemas;
document.getElementById("summary").textContent = `${description.info.summary} Version ${description.info.version}.`;

const named = (schema) => (schema.$ref ? schema.$ref.split("/").at(-1) : null);
const resolved = (schema) => (schema.$ref ? schemas[named(schema)] : schema);

function kind(schema) {
  if (schema.$ref) return named(schema);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(kind).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${schema.items ? kind(schema.items) : "any"}]`;
  return schema.type ?? "any";
}

function bounds(schema) {
  const whole = { ...schema, ...(schema.anyOf?.find((part) => part.type !== "null") ?? {}) };
  const signs = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", minItems: "items ≥", maxItems: "items ≤" };
  const found = Object.entries(signs).filter(([key]) => whole[key] !== undefined).map(([key, sign]) => `${sign} ${whole[key]}`);
  if (schema.default !== undefined && typeof schema.default !== "object") found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function inner(schema) {
  const parts = schema.anyOf ?? schema.oneOf ?? (schema.type === "array" && schema.items ? [schema.items] : [schema]);
  return parts.flatMap((part) => (part === schema ? [part] : part.$ref ? [part] : inner(part))).filter((part) => named(part));
}

function fields(schema, depth = 0) {
  const list = element("ul");
  const { properties = {}, required = [] } = resolved(schema);
  for (const [name, field] of Object.entries(properties)) {
    const needed = required.includes(name) ? "" : "optional";
    const notes = [kind(field), bounds(field), needed].filter(Boolean).join(" · ");
    const line = element("li", {}, element("code", {}, name), " ", element("span", { class: "kind" }, notes));
    if (field.description) line.append(element("div", { class: "quiet" }, field.description));
    if (depth < 3) for (const part of inner(field)) line.append(element("div", { class: "kind" }, named(part)), fields(part, depth + 1));
    list.append(line);
  }
  return list;
}

function body(title, content) {
  const schema = Object.values(content ?? {})[0]?.schema;
  if (!schema || !resolved(schema).properties) return [];
  return [element("h3", {}, title), fields(schema)];
}

for (const [path, operations] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const card = element("section", { class: "card" }, element("h2", {}, element("span", {}, method.toUpperCase()), path), element("p", {}, operation.description ?? ""));
    card.append(...body("Request", operation.requestBody?.content), ...body("Answer", operation.responses["200"]?.content));
    if (EXAMPLES[path]) {
      const call = `curl ${at(path)} -H 'Content-Type: application/json' -d '\n${JSON.stringify(EXAMPLES[path], null, 1).replaceAll("'", "'\\''")}'`;
      card.append(element("h3", {}, "Example"), element("pre", {}, call));
    }
    const refusals = Object.entries(operation.responses).filter(([status]) => status !== "200");
    if (refusals.length) card.append(element("h3", {}, "Refusals"), element("div", { class: "codes" }, ...refusals.map(([status, { description: text }]) => element("span", {}, `${status} ${text}`))));
    document.getElementById("operations").append(card);
  }
}
