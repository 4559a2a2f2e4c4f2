// What a Streamlit component must say to its page, and hear from it; no more than that.
"use strict";
const page = {
  send: (type, more) => window.parent.postMessage({ isStreamlitMessage: true, type: "streamlit:" + type, ...more }, "*"),
  value: (value) => page.send("setComponentValue", { value, dataType: "json" }),
  height: (pixels) => page.send("setFrameHeight", { height: pixels }),
  onRender: (draw) => {
    window.addEventListener("message", (event) => {
      if (event.data.type !== "streamlit:render") return;
      const theme = event.data.theme || {};
      const root = document.documentElement.style;
      root.setProperty("--text", theme.textColor || "#222");
      root.setProperty("--background", theme.backgroundColor || "#fff");
      root.setProperty("--second", theme.secondaryBackgroundColor || "#eee");
      root.setProperty("--primary", theme.primaryColor || "#0072B2");
      root.setProperty("--font", theme.font || "sans-serif");
      draw(event.data.args, theme);
    });
    page.send("componentReady", { apiVersion: 1 });
  },
};
// Keys pressed inside the frame work as if they were pressed in the page, whose shortcuts they are.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const { key, code, keyCode, shiftKey, repeat } = event;
  window.parent.document.dispatchEvent(new KeyboardEvent("keydown", { key, code, keyCode, shiftKey, repeat, bubbles: true }));
});
// Streamlit sends a component's files again for every frame. The page keeps these libraries, megabytes, for all its frames.
async function libraries(...names) {
  const kept = (window.parent.crystalganLibraries ||= {});
  for (const name of names) {
    if (!kept[name]) {
      const answer = await fetch(name);
      if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
      kept[name] = window.parent.URL.createObjectURL(await answer.blob());
    }
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      Object.assign(script, { src: kept[name], onload: done, onerror: failed });
      document.head.append(script);
    });
  }
}
