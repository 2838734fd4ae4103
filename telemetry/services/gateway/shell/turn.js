// One question and its answer on the page.

import { button, element } from "./dom.js";
import { markdown } from "./markdown.js";

export class Turn {
  // again(text): send a question again. moved(): the page has grown.
  constructor(id, prompt, { again, moved }) {
    Object.assign(this, { id, prompt, moved, text: "", running: true, frame: 0 });
    this.again = () => again(prompt);
    this.tools = element("div", "tools");
    this.body = element("div", "text");
    this.foot = element("div", "facts");
    this.answer = element("div", "answer running", this.tools, this.body, this.foot);
    this.node = element("article", "turn", element("div", "prompt", prompt), this.answer);
    this.node.dataset.id = id;
  }

  static finished(turn, acts) {
    const made = new Turn(turn.id, turn.prompt, acts);
    made.text = turn.answer;
    made.body.append(markdown(turn.answer));
    (turn.toolsUsed ?? []).forEach((name) => made.tool(name));
    made.end(turn);
    made.done(turn);
    return made;
  }

  waiting(why) {
    this.foot.replaceChildren(why);
  }

  // The answer starts, maybe again after a reconnect: all of it follows.
  begin() {
    this.text = "";
    this.tools.replaceChildren();
    this.foot.replaceChildren();
    this.draw();
  }

  take(event) {
    if (event.type === "delta") { this.text += event.text; this.draw(); }
    else if (event.type === "tool") this.tool(event.name);
    else if (event.type === "end") this.end(event);
    else if (event.type === "done") { this.end(event); this.done(event); }
  }

  tool(name) {
    this.tools.append(element("span", "", name));
  }

  // At most once for each frame.
  draw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.body.replaceChildren(markdown(this.text));
      this.moved();
    });
  }

  end({ status, error }) {
    if (!this.running) return;
    this.running = false;
    this.answer.classList.remove("running");
    if (status === "cancelled") this.answer.insertBefore(element("p", "note", "Stopped."), this.foot);
    else if (error) this.answer.insertBefore(element("p", "error", sentence(error)), this.foot);
    this.foot.replaceChildren("cost to come …");
  }

  done(facts) {
    this.foot.replaceChildren();
    if (facts.costUsd !== undefined) {
      const figures = [`$${plain(facts.costUsd)}`, `${facts.tokensIn} tokens in, ${facts.tokensOut} out`];
      figures.push(facts.durationMs < 1000 ? `${facts.durationMs} ms` : `${(facts.durationMs / 1000).toFixed(1)} s`);
      this.foot.append(element("span", "figures", figures.join(" · ")));
      this.foot.title = `trace ${facts.traceId}`;
    }
    if (this.text && navigator.clipboard) {
      const copy = button("quiet", "Copy", async () => {
        await navigator.clipboard.writeText(this.text);
        copy.textContent = "Copied";
      });
      this.foot.append(copy);
    }
    if (facts.status !== "ok") this.foot.append(button("quiet", "Ask again", this.again));
  }
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}

function plain(cost) {
  return cost.includes(".") ? cost.replace(/\.?0+$/, "") : cost;
}
