// Before anything is drawn: the theme that was chosen, or the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("nexus.theme"); } catch { /* storage may be off */ }
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "").get("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = [asked, chosen].find((one) => one === "light" || one === "dark") ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
})();
