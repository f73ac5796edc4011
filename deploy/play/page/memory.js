// What this browser remembers of the player's choices; storage may be off.

export function recall(name, otherwise) {
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
}

export function remember(name, value) {
  try { localStorage.setItem(name, typeof value === "string" ? value : JSON.stringify(value)); } catch { /* for this page only, then */ }
}
