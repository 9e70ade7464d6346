// One tooltip for the page: on hover, on keyboard focus, closed by Escape.

function withTip(node, content) {
  node.setAttribute("aria-describedby", "tip");
  node.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "touch") showTip(node, content());
  });
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focus", () => showTip(node, content()));
  node.addEventListener("blur", hideTip);
  node.addEventListener("click", () => showTip(node, content()));
  return node;
}

function showTip(node, content) {
  const tip = byId("tip");
  refill(tip, content);
  tip.hidden = false;
  const gap = 8;
  const at = node.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(gap, at.left), document.documentElement.clientWidth - size.width - gap);
  const below = at.bottom + gap + size.height <= window.innerHeight;
  tip.style.left = `${Math.max(gap, left)}px`;
  tip.style.top = `${below ? at.bottom + gap : Math.max(gap, at.top - gap - size.height)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

function startTips() {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
  });
  document.addEventListener("scroll", hideTip, { capture: true, passive: true });
}
