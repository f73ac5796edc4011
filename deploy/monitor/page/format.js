// Numbers and times as people read them.

const UNITS = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [unit, name] of UNITS) if (size >= unit * 0.99995) return trim(value / unit, 3) + name;
  if (size !== 0 && size < 1e-3) return value.toExponential(1);
  return trim(value, size < 1 ? 3 : size < 100 ? 3 : 4);
}

export function score(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return short(value);
  return size >= 100 ? whole(value) : trim(value, 3);
}

function trim(value, digits) {
  return minus(Number(value.toPrecision(digits)).toString());
}

function minus(text) {
  return text.replace("-", "−"); // as wide as a digit, and never broken off its number
}

export function whole(value) {
  return Number.isFinite(value) && value !== null ? minus(Math.round(value).toLocaleString("en")) : "–";
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${trim(seconds / 3600, 2)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function ago(time) {
  return time ? `${duration(Math.max(0, Date.now() / 1000 - time))} ago` : "–";
}

export function bytes(value) {
  if (!Number.isFinite(value) || value === null) return "–";
  for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (value >= unit) return `${trim(value / unit, 3)} ${name}`;
  return `${Math.round(value)} B`;
}

export function counted(number, noun) {
  return `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
}

const SUITES = { dmc: "DMC", atari: "Atari", crafter: "Crafter", minigrid: "MiniGrid", procgen: "Procgen", pretrain: "Pretraining" };

export function taskTitle(task) {
  if (task.startsWith("suite:")) return `${SUITES[task.slice(6)]}, all tasks`;
  const plain = task.replace(/^(gym|envpool|rllib):/, "");
  const [suite, ...rest] = plain.split("_");
  return [SUITES[suite] ?? suite, ...rest].join(" ");
}
