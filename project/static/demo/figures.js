// Put numbers into the page in words that people read.

const whole = new Intl.NumberFormat("en");

export function figure(name, value) {
  document.querySelector(`[data-figure="${name}"]`).textContent =
    typeof value === "number" ? whole.format(value) : value;
}

export function percent(share) {
  return `${Math.round(100 * share)}%`;
}

export function size(bytes) {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes >= 1000 ? `${(mebibytes / 1024).toFixed(1)} GiB` : `${mebibytes.toFixed(0)} MiB`;
}
