// The log-in form.

import { begin, reason, token } from "./session.js";

const form = document.querySelector("form");
const wrong = document.getElementById("wrong");
const [button, field] = [form.querySelector("button"), form.elements.token];

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  wrong.hidden = true;
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: {"content-type": "application/json"},
      body: JSON.stringify({token: field.value}),
    });
    if (response.ok) {
      begin((await response.json()).session);
      return;
    }
    wrong.textContent = response.status === 401 ? "The token is wrong." : await reason(response);
  } catch {
    wrong.textContent = "The service doesn't answer.";
  }
  wrong.hidden = false;
  button.disabled = false;
  field.select();
  field.focus();
});

// Until now, the browser would have sent the form by itself.
button.disabled = field.disabled = false;
field.focus();
if (token()) begin(token());
