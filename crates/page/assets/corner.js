// The corner where calls are made. The program makes them, and they appear among all others.

const [corner, method, list, message, metadata, deadline, call, send, halfClose, cancel, told] =
  ["corner", "method", "methods", "message", "metadata", "deadline", "call", "send", "half-close", "cancel", "told"].map((id) => document.getElementById(id));
const methods = new Map();
/** The call that is open: its number, and whether messages may still be sent. */
let open = null;

async function ask(question) {
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch("ask", { method: "POST", headers, body: JSON.stringify(question) });
    const answer = response.ok ? await response.json() : { error: await response.text() };
    told.textContent = answer.error ?? answer.note ?? "";
    return answer.error === undefined ? answer : null;
  } catch {
    told.textContent = "the program does not answer";
    return null;
  }
}

function show() {
  call.disabled = open !== null;
  send.disabled = halfClose.disabled = !open?.sends;
  cancel.disabled = open === null;
}

/** Shows the corner. `choose` is told the number of each call that is made here. */
export async function begin(choose) {
  corner.hidden = false;
  show();
  corner.addEventListener("toggle", async () => {
    if (!corner.open || methods.size) return;
    const answer = await ask({ do: "methods" });
    for (const one of answer?.methods ?? []) methods.set(one.path, one);
    list.replaceChildren(...[...methods.keys()].map((path) => Object.assign(document.createElement("option"), { value: path })));
  });
  method.addEventListener("input", () => {
    const chosen = methods.get(method.value);
    if (!chosen) return;
    message.value = chosen.template;
    told.textContent = chosen.mode;
  });
  call.addEventListener("click", async () => {
    const options = { metadata: metadata.value, deadline: deadline.value };
    const begun = await ask({ do: "begin", method: method.value.trim(), message: message.value, ...options });
    if (!begun) return;
    open = { number: begun.call, sends: begun.sends };
    show();
    choose(begun.call);
  });
  send.addEventListener("click", () => ask({ do: "send", call: open.number, message: message.value }));
  halfClose.addEventListener("click", async () => {
    const { number } = open;
    if ((await ask({ do: "half_close", call: number })) && open?.number === number) open.sends = false;
    show();
  });
  cancel.addEventListener("click", () => ask({ do: "cancel", call: open.number }));
}

/** A call has ended. */
export function ended(number) {
  if (open?.number !== number) return;
  open = null;
  show();
}
