"use strict";
// Before the first paint, so that a chosen theme does not flash; a plain script, no module, for that.
(() => {
  const KEY = "predict-latency-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch { /* storage is switched off: the choice holds for this page */ }
  const isDark = () => (chosen ? chosen === "dark" : system.matches);

  function apply() {
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (button) button.textContent = isDark() ? "Light theme" : "Dark theme";
  }

  function toggle() {
    chosen = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, chosen);
    } catch { /* as above */ }
    apply();
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", toggle);
  });
})();
