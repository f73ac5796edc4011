// Colours of groups, in the order in which they appeared; of published curves; and the theme's.

const LIGHT = ["#0b74de", "#e0533d", "#0f9d76", "#8e4ec6", "#d18700", "#c2358f", "#4f6f1f", "#3d4fc9", "#008ba3", "#8a5a2b"];
const DARK = ["#56b2ff", "#ff7a66", "#34d8a8", "#c297ff", "#ffc04d", "#ff7fcf", "#b4d455", "#92a4ff", "#3fd8ee", "#e0a878"];
const OTHERS_LIGHT = ["#8a94a6", "#b08d57", "#7d9c86", "#a786b0"];
const OTHERS_DARK = ["#8e9ab0", "#c2a06b", "#8fb39a", "#b79ac2"];

export function isDark() { return document.documentElement.dataset.theme === "dark"; }

export function colour(place) { const all = isDark() ? DARK : LIGHT; return all[place % all.length]; }

export function dash(place) { const round = Math.floor(place / LIGHT.length); return round ? [6 + 2 * round, 4] : undefined; }

export function publishedColour(place) { const all = isDark() ? OTHERS_DARK : OTHERS_LIGHT; return all[place % all.length]; }

export function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

export function faded(hex, alpha) {
  return hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
}

const NAMES = { dreamerv3: "DreamerV3, published", ppo_fixhp: "PPO, published", sac: "SAC, published" };

export function publishedName(name) { return NAMES[name] ?? name; }
